"""Does every change to a log of records show, wherever it is made?

    python -m bench.records --json

A signed log of ``--records`` records over three days. Then, each on a copy: one bit flipped in
every byte of every file; every line dropped, doubled, and swapped with the next; a record inserted
by somebody who can compute hashes but has no key, at every place, with and without mending the
chain behind it; the end cut off at every line, and the whole folder rolled back to every earlier
copy (that one needs a head that was kept elsewhere). ``missed`` counts what did not show (0).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from tokenscope.records import Head, RecordLog, log, verify
from tokenscope.records.chain import canonical, digest, parse

Change = tuple[str, Callable[[Path], None]]


def made(folder: Path, records: int, days: int = 3) -> RecordLog:
    """A signed log of so many records, the key among them, with one payload erased."""
    out = RecordLog(folder)
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    clock = {"n": 0}

    def now() -> str:
        clock["n"] += 1
        at = start + timedelta(days=clock["n"] * days // (records + 2), seconds=clock["n"])
        return at.isoformat(timespec="microseconds")

    with mock.patch.object(log, "_now", now):
        out.new_key("somebody")
        for n in range(records - 3):
            out.append("run", {"node": f"n{n}", "ids": f"{n:064x}"}, "somebody")
        out.erase([5], "asked for", "somebody")
    return out


def flips(folder: Path, chance: random.Random, step: int = 1) -> Iterator[Change]:
    """One bit in each byte (or every ``step``-th) of each file that is not the private key."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.name in (log.KEY, log.LOCK):
            continue
        name = file.relative_to(folder)
        for at in range(0, file.stat().st_size, step):
            bit = 1 << chance.randrange(8)

            def flip(copy: Path, name: Path = name, at: int = at, bit: int = bit) -> None:
                data = bytearray((copy / name).read_bytes())
                data[at] ^= bit
                (copy / name).write_bytes(data)

            yield f"flip {name.parts[0]}", flip


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def apply(copy: Path) -> None:
        path = copy / log.LOG
        path.write_bytes(b"".join(x + b"\n" for x in change(path.read_bytes().splitlines())))

    return apply


def forged(lines: list[bytes], at: int, mend: bool) -> list[bytes]:
    """A record of the forger's own before line ``at``; ``mend``: and all after it chained anew."""
    before = parse(lines[at - 1]) if at else None
    model = parse(lines[min(at, len(lines) - 1)])
    assert model is not None
    prev = digest(lines[at - 1]) if at else "0" * 64
    own = {"seq": (before.seq if before else 0) + 1, "at": model.at, "kind": "run", "who": "me",
           "payload": "1" * 64, "prev": prev}  # fmt: skip
    out = [*lines[:at], canonical(own)]
    for line in lines[at:]:
        data = json.loads(line)
        if mend:
            data |= {"seq": data["seq"] + 1, "prev": digest(out[-1])}
        out.append(canonical(data))
    return out


def edits(count: int) -> Iterator[Change]:
    """Lines dropped, doubled, swapped, put in, cut off."""
    for n in range(count):
        yield "drop", _lines(lambda x, n=n: x[:n] + x[n + 1 :])  # type: ignore[misc]
        yield "double", _lines(lambda x, n=n: x[: n + 1] + x[n:])  # type: ignore[misc]
        yield "insert", _lines(lambda x, n=n: forged(x, n, False))  # type: ignore[misc]
        yield "insert, mended", _lines(lambda x, n=n: forged(x, n, True))  # type: ignore[misc]
        yield "cut off", _lines(lambda x, n=n: x[:n])  # type: ignore[misc]
        if n + 1 < count:
            yield "swap", _lines(lambda x, n=n: [*x[:n], x[n + 1], x[n], *x[n + 2 :]])  # type: ignore[misc]


def attack(folder: Path, changes: Iterator[Change]) -> tuple[Counter[str], list[str]]:
    """Every change on a copy. Returns how many of each were tried, and those that did not show."""
    tried: Counter[str] = Counter()
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "copy"
        shutil.copytree(folder, copy)
        for what, change in changes:
            tried[what] += 1
            before = {
                f: f.read_bytes() for f in (copy / log.LOG, copy / log.HEAD, copy / log.SEALS)
            }
            payloads = {f: f.read_bytes() for f in (copy / log.PAYLOADS).iterdir()}
            change(copy)
            if verify(RecordLog(copy)).ok:
                missed.append(what)
            for file, data in {**before, **payloads}.items():
                file.write_bytes(data)
    return tried, missed


def rolled_back(folder: Path, records: int) -> tuple[int, int]:
    """The whole folder as it was at every earlier time, against the last head: (tried, missed)."""
    missed = 0
    last = RecordLog(folder).head()
    assert last is not None
    with tempfile.TemporaryDirectory() as work:
        grown = RecordLog(Path(work) / "grown")
        grown.new_key("somebody")
        for n in range(records - 2):
            copy = Path(work) / f"at{n}"
            shutil.copytree(grown.folder, copy)
            grown.append("run", {"n": n}, "somebody")
        head = grown.head()
        assert head is not None
        for n in range(records - 2):
            found = verify(RecordLog(Path(work) / f"at{n}"), [Head.from_json(head.to_json())])
            missed += found.ok
    return records - 2, missed


def main() -> int:
    """Exit 1 when something did not show."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "records"
        whole = made(folder, given.records)
        first = verify(whole)
        assert first.ok, first.problems
        tried, missed = attack(folder, flips(folder, random.Random(0), given.step))
        more, also = attack(folder, edits(first.records))
        back, unseen = rolled_back(folder, given.records)
    tried += more
    tried["rolled back"] = back
    found = {"records": first.records, "tried": dict(tried), "total": sum(tried.values()),
             "missed": len(missed) + len(also) + unseen,
             "first_missed": (missed + also)[:5]}  # fmt: skip
    print(json.dumps(found, indent=1) if given.json else
          "\n".join(f"{k:14} {v}" for k, v in found.items()))  # fmt: skip
    return 0 if not found["missed"] else 1


if __name__ == "__main__":
    sys.exit(main())
