"""Failing storage: every call that changes the disk fails once, and from then on; a disk fills up.

    python bench/storage.py [--step 1] [--json]

Shown for each fault: no token that was acknowledged is lost, every error has a name of its own,
no branch stays ``running``, and all is well again when the cause is gone.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope import disk
from tokenscope.errors import StoreError, TokenScopeError
from tokenscope.store import Part, Recording, Store, database, journal
from tokenscope.trace import Alternatives, Origin, Tokens

CALLS = ("open", "write", "fsync", "fdatasync", "ftruncate", "replace", "unlink", "makedirs")
CHANGES = ("BEGIN IMMEDIATE", "COMMIT", "INSERT", "UPDATE", "DELETE")
KINDS: tuple[tuple[int, int], ...] = (
    (errno.ENOSPC, sqlite3.SQLITE_FULL), (errno.EIO, sqlite3.SQLITE_IOERR),
    (errno.EROFS, sqlite3.SQLITE_READONLY), (errno.EAGAIN, sqlite3.SQLITE_BUSY),
)  # fmt: skip


@dataclass
class Fault:
    """The nth call fails; ``lasting``: and all after it. A failing write may take half first."""

    at: int
    kind: tuple[int, int]
    lasting: bool = False
    short: bool = False
    calls: int = 0
    struck: list[str] = field(default_factory=list)

    def strikes(self, name: str) -> bool:
        """Whether this call fails."""
        self.calls += 1
        if self.at < 0 or not (self.calls > self.at if self.lasting else self.calls == self.at + 1):
            return False
        self.struck.append(name)
        return True


class FaultyOs:
    """Stands for the module ``os`` in ``tokenscope.disk``."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any, **options: Any) -> Any:
            if self._fault.strikes(name):
                if name == "write" and self._fault.short:
                    os.write(args[0], args[1][: len(args[1]) // 2])
                code = self._fault.kind[0]
                raise OSError(code, os.strerror(code))
            return real(*args, **options)

        return call


class FaultyConnection:
    """Stands for a connection to SQLite."""

    def __init__(self, real: sqlite3.Connection, fault: Fault) -> None:
        self._real, self._fault = real, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Fails where the fault says so."""
        if statement.startswith(CHANGES) and self._fault.strikes(statement[:15]):
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self._fault.kind[1]
            raise error
        return self._real.execute(statement, *values)


@contextmanager
def injected(fault: Fault) -> Iterator[None]:
    """Let the calls of the store go through the fault."""
    connect = database.connect
    tokens, journal.GROUP_TOKENS = journal.GROUP_TOKENS, 4  # many syncs
    disk.os = FaultyOs(fault)  # type: ignore[attr-defined]
    database.connect = lambda *a: FaultyConnection(connect(*a), fault)  # type: ignore
    try:
        yield
    finally:
        disk.os, database.connect = os, connect  # type: ignore[attr-defined]
        journal.GROUP_TOKENS = tokens


def part(start: int, text: str) -> Part:
    """A token per character."""
    n = len(text)
    return Part(
        start, Tokens.of([ord(c) for c in text], [c.encode() for c in text]),
        {"logprob": np.full(n, -1, np.float32)},
        Alternatives(np.array([[ord(c), 120] for c in text]), np.full((n, 2), -1.0), {120: b"x"}),
        None, start == 0,
    )  # fmt: skip


@dataclass
class Told:
    """What a user was told: the text of each branch, as far as it was shown; the errors."""

    shown: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)
    anonymous: list[str] = field(default_factory=list)

    def attempt(self, what: Callable[[], Any]) -> Any:
        """Do it; note what comes of it."""
        try:
            return what()
        except TokenScopeError as error:
            self.errors[error.code] += 1
            if isinstance(error, StoreError) and (error.code == "store" or not error.remedy):
                self.anonymous.append(str(error))
        except Exception as error:  # noqa: BLE001 - what this looks for
            self.anonymous.append(f"{type(error).__name__}: {error}")
        return None


def run(told: Told, writing: Recording, base: str, text: str) -> None:
    """Append text piece by piece; when that fails, end the run as the server does."""
    node = writing.node.id
    told.shown[node] = base
    for i in range(0, len(text), 2):
        start = len(told.shown[node])

        def step(start: int = start, i: int = i) -> bool:
            writing.append(part(start, text[i : i + 2]))
            told.shown[node] += text[i : i + 2]
            return True

        if not told.attempt(step):
            told.attempt(lambda: writing.finish(None, "error"))
            return
    told.attempt(lambda: writing.finish(None, "length"))


def story(store: Store, told: Told) -> None:
    """A root, two generations of branches, renaming, deleting, purging."""
    session = told.attempt(store.new_session)
    if session is None:
        return
    text = "".join(chr(97 + i % 26) for i in range(60))
    parent: str | None = None
    for _ in range(5):
        shared = told.attempt(lambda p=parent: store.trace(p).cut(20)) if parent else None
        if parent and (shared is None or len(shared) < 20):
            parent = shared = None
        writing = told.attempt(
            lambda p=parent, s=shared: store.begin(
                session.id, Origin(model="m"), parent=p, at=len(s) if s is not None else 0,
                shared=s, request={"prompt": "abc"},
            )
        )  # fmt: skip
        if writing is None:
            continue
        base = shared.text if shared is not None else ""
        run(told, writing, base, text[len(base) :])
        told.attempt(lambda w=writing: store.rename_node(w.node.id, "name"))
        parent = writing.node.id
    if parent:
        gone = told.attempt(lambda p=parent: store.delete_node(p))
        told.gone |= set(gone or ())
    told.attempt(lambda: store.rename_session(session.id, "title"))
    told.attempt(lambda: store.purge(timedelta(0)))


def lost(store: Store, told: Told) -> list[str]:
    """What was shown and is not there."""
    out = []
    for node, text in told.shown.items():
        if node in told.gone:
            continue
        try:
            found = store.trace(node).text
        except TokenScopeError as error:
            found = f"({error})"
        if found != text and node not in told.gone:
            out.append(f"{node}: {found!r} for {text!r}")
        elif store.node(node).status == "running":
            out.append(f"{node} stays running")
    return out


def faulted(folder: Path, fault: Fault) -> Told:
    """The story with a fault. Afterwards the cause is gone: the same store, then a new one."""
    told = Told()
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(folder, None)
    try:
        store._database.close()  # connections that are open already would not fail
        with injected(fault):
            story(store, told)
            problems = lost(store, told)  # also while it lasts
            store._database.close()
        store.new_session("after")  # the next change settles what was left
        problems += lost(store, told) + [
            f"not settled: {n}" for n in store._unsettled
        ]  # fmt: skip
    finally:
        store.close()
    store = Store(folder, None)
    problems += lost(store, told)
    left = [p.name for p in store._shelf.folder.iterdir() if p.suffix != ".safetensors"]
    store.close()
    told.anonymous += [f"at {fault.at} {fault.struck[:1]}: {p}" for p in problems]
    told.anonymous += [f"at {fault.at}: left lying about: {name}" for name in left]
    return told


def all_faults(folder: Path, step: int, first: int = 0) -> dict[str, Any]:
    """One fault after another."""
    counting = Fault(-1, KINDS[0])
    with injected(counting):
        store = Store(folder / "count", None)
        story(store, Told())
        store.close()
    errors: Counter[str] = Counter()
    wrong: list[str] = []
    faults = 0
    for at in range(first, counting.calls, step):
        for lasting in (False, True):
            kind = KINDS[(at + lasting) % len(KINDS)]
            fault = Fault(at, kind, lasting, short=at % 2 == 0)
            told = faulted(folder / "data", fault)
            errors += told.errors
            wrong += told.anonymous
            faults += bool(fault.struck)
    return {"calls": counting.calls, "faults": faults, "errors": dict(errors), "wrong": wrong}


def full_disk(folder: Path, size: int = 1 << 20) -> dict[str, Any]:
    """A real disk that fills up: a tmpfs (needs the right to mount) with ballast in it."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        return {"skipped": done.stderr.strip() or "mount is not allowed"}
    told = Told()
    try:
        store = Store(folder / "data", None)
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(size - (300 << 10)))
        for _ in range(40):
            story(store, told)
        problems = lost(store, told)
        shown = sum(map(len, told.shown.values()))
        at_start = Told()
        store.close()
        opened = at_start.attempt(lambda: Store(folder / "data", None))
        if opened is not None:
            problems += lost(opened, told)
            opened.close()
        ballast.unlink()
        store = Store(folder / "data", None)
        store.new_session("after")
        problems += lost(store, told)
        store.close()
    finally:
        subprocess.run(["umount", folder], check=False)
    return {
        "tokens_shown": shown, "errors": dict(told.errors), "at_start": dict(at_start.errors),
        "wrong": told.anonymous + at_start.anonymous + problems,
    }  # fmt: skip


def main() -> int:
    """Run and print. Exit code 1 when anything was lost or had no name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="Every how many calls one fails.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = all_faults(Path(folder), asked.step)
        disk_full = full_disk(Path(folder) / "full")
    wrong = len(found["wrong"]) + len(disk_full.get("wrong", ()))
    found["wrong"] = found["wrong"][:20]
    out = {**found, "full_disk": disk_full}
    print(json.dumps(out) if asked.json else "\n".join(f"{k}: {v}" for k, v in out.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
