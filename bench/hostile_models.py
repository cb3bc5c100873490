"""Every hostile model folder, loaded: no raw exception, no hang, no dead process, bounded memory.

    python bench/hostile_models.py --json [--only TEXT]

A case passes when loading ends within 5 s in an error of TokenScope's own, or in a model that
encodes, decodes a token and, if it can, chats. Cases run in a process that is replaced when it
dies or hangs; its peak memory and that of its workers are measured.
"""

from __future__ import annotations

import argparse
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
SECONDS = 5.0
PATIENCE = 30.0
START = 240.0  # a busy machine may take so long to import


def serve(names: list[str]) -> None:
    """One line of JSON before and after each case."""
    from tests.backends.hostile import build, good
    from tokenscope.errors import ModelError, TokenScopeError
    from tokenscope.runs.model import load

    with tempfile.TemporaryDirectory() as temporary:
        base = good(Path(temporary) / "good")
        load(base).close()  # imports and caches are no case's time
        say({"ready": memory()})
        for n, name in enumerate(names):
            folder = build(name, base, Path(temporary) / str(n))
            say({"start": name})
            began, kind, text = time.perf_counter(), "loaded", ""
            try:
                model = load(folder)
            except TokenScopeError as error:
                kind, text = type(error).__name__, str(error)
                named = isinstance(error, ModelError) and str(folder) in text
                kind = kind if named or not isinstance(error, ModelError) else "unnamed"
            except BaseException as error:  # noqa: BLE001 (the very thing that is looked for)
                kind, text = "raw", f"{type(error).__name__}: {error}"
            loaded = time.perf_counter() - began
            if kind == "loaded":
                kind, text = use(model)
            text = text.replace(temporary, "")[:300]
            say({"case": name, "kind": kind, "text": text, "seconds": round(loaded, 2)})
        say({"end": memory()})


def use(model: Any) -> tuple[str, str]:
    """A model that loaded must also work."""
    from tokenscope.errors import TokenScopeError

    try:
        model.generate("def f(a):", max_new_tokens=1)
        if model.abilities.chat:
            model.chat([{"role": "user", "content": "x"}], max_new_tokens=1)
    except TokenScopeError as error:
        return "loaded, then refused", str(error)
    except BaseException as error:  # noqa: BLE001 (the same)
        return "raw", f"in use: {type(error).__name__}: {error}"
    model.close()
    return "loaded", "; ".join(n for n in model.info.notes if "no chat" in n)


def memory() -> dict[str, float]:
    """Peak MB of this process and of the largest worker."""
    own, workers = (
        resource.getrusage(who).ru_maxrss / 1e3
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"own": own, "worker": workers}


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def pump(source: Any, lines: queue.Queue[str]) -> None:
    """Lines of a pipe into a queue; "" at its end."""
    for line in source:
        lines.put(line)
    lines.put("")


def run(names: list[str]) -> dict[str, Any]:
    """All cases, whatever they do to the process that tries them."""
    left, found, peaks = list(names), [], []
    while left:
        child = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(json.dumps(left))
        child.stdin.close()
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=pump, args=(child.stdout, lines), daemon=True).start()
        current = None
        while True:
            try:
                line = lines.get(timeout=PATIENCE if current else START)
            except queue.Empty:
                break
            if not line:
                break
            out = json.loads(line)
            if "start" in out:
                current = out["start"]
            elif "case" in out:
                found.append(out)
                left.remove(out["case"])
                current = None
                print(f"{out['seconds']:6.2f} s  {out['kind']:20} {out['case']}  {out['text']}",
                      file=sys.stderr)  # fmt: skip
            else:
                peaks.append(next(iter(out.values())))
        child.kill()
        child.wait()
        if left and current is None:
            raise SystemExit("the process ended outside a case")
        if left:
            text = "the process died or hung"
            found.append({"case": current, "kind": "dead", "text": text, "seconds": PATIENCE})
            left.remove(current)
    kinds: dict[str, int] = {}
    for case in found:
        kinds[case["kind"]] = kinds.get(case["kind"], 0) + 1
    bad = [c for c in found if c["kind"] in ("raw", "dead", "unnamed") or c["seconds"] > SECONDS]
    return {
        "cases": len(found), "kinds": kinds, "slowest_s": max(c["seconds"] for c in found),
        "peak_mb": {k: max(p[k] for p in peaks) for k in ("own", "worker")},
        "ready_mb": peaks[0]["own"], "bad": bad,
    }  # fmt: skip


def main() -> int:
    """Exit 1 when a case fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--serve", action="store_true")
    asked = parser.parse_args()
    if asked.serve:
        serve(json.load(sys.stdin))
        return 0
    from tests.backends.hostile import CASES

    result = run([n for n in CASES if asked.only in n])
    print(json.dumps(result, indent=1))
    return 1 if result["bad"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
