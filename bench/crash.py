"""The process is killed: while it writes (SIGKILL, at random), and in the middle of a migration.

    python bench/crash.py [--kills 100] [--json]

Shown: every token that was told to a reader is there when the store is opened again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.storage import part
from tokenscope import disk
from tokenscope.store import Store
from tokenscope.trace import Origin


def write(folder: Path, say: Callable[[dict[str, Any]], None], seed: int) -> None:
    """Branches without end; what a reader would have seen is said after it was kept."""
    rng = random.Random(seed)
    store = Store(folder, None)
    session = store.new_session().id
    parent: str | None = None
    while True:
        shared = store.trace(parent).cut(rng.randrange(1, 20)) if parent else None
        at = len(shared) if shared is not None else 0
        writing = store.begin(
            session, Origin(model="m"), parent=parent, at=at, shared=shared, request={"n": 1}
        )
        for i in range(at, 60):
            writing.append(part(i, chr(97 + (i * 7) % 26)))
            say({"node": writing.node.id, "tokens": i + 1})
        writing.finish(None, "length")
        parent = writing.node.id if rng.random() < 0.7 else None


def kill(folder: Path, seed: int, after: float) -> dict[str, int]:
    """Write in a process of its own and kill it. Returns how many tokens of each branch it told."""
    read, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            write(folder, lambda d: void(os.write(out, json.dumps(d).encode() + b"\n")), seed)
        finally:
            os._exit(1)
    os.close(out)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(read) as lines:
        told = {d["node"]: d["tokens"] for d in (json.loads(x) for x in lines if x.endswith("\n"))}
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return told


def void(_: object) -> None:
    """Nothing."""


def kills(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Kill again and again over one folder; after each, everything that was ever told is there."""
    rng = random.Random(seed)
    told: dict[str, int] = {}
    wrong: list[str] = []
    interrupted = 0
    for i in range(count):
        new = kill(folder, seed + i, rng.uniform(0.02, 0.4))
        told |= new
        store = Store(folder, None)
        interrupted += store.kept
        for node in told if i == count - 1 else new:
            found = store.trace(node)
            row = store.node(node)
            text = "".join(chr(97 + (t * 7) % 26) for t in range(len(found)))
            if len(found) < told[node] or found.text != text or row.status == "running":
                wrong.append(f"{node}: {len(found)} of {told[node]} tokens, {row.status}")
            if row.request != {"n": 1}:
                wrong.append(f"{node}: its request is lost")
        store.close()
    return {
        "kills": count, "branches": len(told), "tokens": sum(told.values()),
        "interrupted": interrupted, "wrong": wrong,
    }  # fmt: skip


class Dying:
    """Stands for ``os`` in ``tokenscope.disk``: the process ends before its nth change."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __getattr__(self, name: str) -> Any:
        if name in ("open", "write", "fsync", "fdatasync", "replace", "unlink"):
            self._left -= 1
            if self._left < 0:
                os._exit(9)
        return getattr(os, name)


def killed_migrations(old: Path, copy: Path, check: Callable[[Path], None]) -> int:
    """Open copies of an old folder, each dying one call later, then whole. Returns how many died.

    ``check`` opens what is left and raises when anything is not there.
    """
    died = 0
    while True:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(old, copy)
        child = os.fork()
        if child == 0:
            disk.os = Dying(died)  # type: ignore[attr-defined]
            try:
                Store(copy, None).close()
            except BaseException:  # noqa: BLE001 - a child of a test runner must end here
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        check(copy)
        if code == 0:
            return died
        assert code == 9, code
        died += 1


def main() -> int:
    """Run and print. Exit code 1 when anything was lost."""
    from tests.store.test_migration import check, old_folder

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kills(Path(folder) / "data", asked.kills)
        old = old_folder(Path(folder) / "old")
        found["migrations_killed"] = killed_migrations(old, Path(folder) / "copy", check)
    print(json.dumps(found) if asked.json else "\n".join(f"{k}: {v}" for k, v in found.items()))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
