"""Try the seeded defects. Exit 1 when one survives, is stale, or its tests fail without it.

Importing torch and transformers takes longer than the tests. So this process imports them, and
never ``tokenscope``; every defect is tried in a fork that imports the package from its own copy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import DEFECTS, Defect
from tests.seeded.defect import ROOT, StaleDefect, copied

LIMIT_S = 300  # a defect may make a test run for ever: that is caught, too
FAILED, PASSED, FOREVER = 1, 0, 124  # pytest's exit codes, and ours
_FIRST = ("torch", "transformers", "transformers.models.llama", "pandas", "hypothesis",
          "tree_sitter", "safetensors.torch", "sqlalchemy", "typer")  # fmt: skip


def forked(tests: tuple[str, ...], sources: Path, log: Path) -> int:
    """Start pytest on these tests with these sources in a fork; its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ |= {"PYTHONPATH": str(sources), "SEEDED_SOURCES": str(sources)}
    sys.path.insert(0, str(sources))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(FOREVER))
    signal.alarm(LIMIT_S)
    code = FAILED
    try:
        code = int(pytest.main([
            "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-p", "tests.seeded.inside",
            "-m", "not journey", *tests,
        ]))  # fmt: skip
    finally:
        sys.stdout.flush()
        os._exit(code)


def tell(defect: Defect, outcome: str, seconds: float) -> dict[str, Any]:
    """The result of one as a row."""
    return {"name": defect.name, "file": defect.file, "breaks": defect.breaks,
            "outcome": outcome, "seconds": round(seconds, 1)}  # fmt: skip


def outcome(code: int) -> str:
    """In words, what pytest's exit code says of a defect."""
    if code in (FAILED, FOREVER):
        return "caught"
    return "survived" if code == PASSED else f"pytest ended with {code}"


def everything(chosen: list[Defect], folder: Path, jobs: int, say: Any) -> list[dict[str, Any]]:
    """Every defect in a copy of its own, ``jobs`` at a time."""
    waiting, results = list(chosen), []
    running: dict[int, tuple[Defect, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            defect = waiting.pop(0)
            home = folder / defect.name
            sources = copied(home)
            try:
                (sources / "tokenscope" / defect.file).write_text(defect.seeded())
            except StaleDefect as error:
                results.append(tell(defect, str(error), 0.0))
                say(str(error))
                continue
            child = forked(defect.tests, sources, home / "log")
            running[child] = (defect, home, time.monotonic())
        if not running:
            break
        child, status = os.wait()
        defect, home, begin = running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        row = tell(defect, outcome(code), time.monotonic() - begin)
        if row["outcome"] != "caught":
            print((home / "log").read_text()[-1500:], file=sys.stderr)
        say(f"{row['outcome']:9} {row['seconds']:5.1f} s  {defect.name}: {defect.breaks}")
        results.append(row)
    return results


def main() -> int:
    """Print the outcome of each, and how many of how many were caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.seeded", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document at the end")
    parser.add_argument("--only", default="", help="defects whose name or file holds this")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--no-baseline", action="store_true",
                        help="do not first run the named tests without any defect")  # fmt: skip
    options = parser.parse_args()
    chosen = [d for d in DEFECTS if options.only in d.name or options.only in d.file]
    if not chosen:
        parser.error(f"no defect is called {options.only!r}")
    say = lambda text: print(text, file=sys.stderr if options.json else sys.stdout, flush=True)
    os.chdir(ROOT)
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sys.dont_write_bytecode = True
    for name in _FIRST:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="seeded-") as name:
        folder = Path(name)
        if not options.no_baseline:
            tests = tuple(dict.fromkeys(t for d in chosen for t in d.tests))
            log = folder / "log"
            child = forked(tests, copied(folder / "healthy"), log)
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != PASSED:
                say(log.read_text()[-3000:])
                say("the named tests fail without any defect: nothing can be said")
                return 1
        results = everything(chosen, folder, options.jobs, say)
    caught = sum(r["outcome"] == "caught" for r in results)
    if options.json:
        print(json.dumps({"caught": caught, "of": len(results), "defects": results}, indent=1))
    say(f"{caught} of {len(results)} caught")
    return 0 if caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
