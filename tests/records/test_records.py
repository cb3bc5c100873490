"""The log of records: what is appended stays, and what is changed shows and is named."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from bench.records import attack, edits, flips, made, rolled_back
from bench.storage import KINDS, Fault, injected
from tokenscope.errors import InputError, StoreDamaged, StoreError
from tokenscope.records import RecordLog, merkle, verify
from tokenscope.records.chain import digest

APPENDER = """
import sys
from pathlib import Path
from tokenscope.records import RecordLog
log = RecordLog(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    print(log.append("run", {"n": n, "by": sys.argv[3]}, "somebody").seq, flush=True)
"""


def appender(folder: Path, n: int, name: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(folder), str(n), name], stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def kinds(log: RecordLog) -> set[tuple[str, int]]:
    return {(p.kind, p.seq) for p in verify(log).problems}


def test_whatever_is_changed_shows(tmp_path: Path) -> None:
    """`bench/records.py` does it to a hundred records and every byte."""
    log = made(tmp_path / "records", 9)
    assert verify(log).ok
    tried, missed = attack(log.folder, flips(log.folder, random.Random(1), step=13))
    more, also = attack(log.folder, edits(9))
    assert missed == also == []
    assert sum(tried.values()) > 250 and sum(more.values()) > 40
    assert rolled_back(log.folder, 8)[1] == 0


def test_what_was_changed_is_named(tmp_path: Path) -> None:
    log = made(tmp_path / "records", 12)
    path = log.folder / "log.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines()

    def after(change: list[bytes]) -> set[tuple[str, int]]:
        path.write_bytes(b"".join(x + b"\n" for x in change))
        return {p for p in kinds(log) if p[0] not in ("seal", "payload")}

    assert after([*lines[:5], lines[5].replace(b"somebody", b"nobodyxx"), *lines[6:]]) == {
        ("changed", 6)
    }
    assert after([*lines[:5], *lines[6:]]) == {("dropped", 6)}
    assert after([*lines[:5], lines[6], lines[5], *lines[7:]]) == {("swapped", 7), ("swapped", 6)}
    assert after([*lines[:6], lines[5], *lines[6:]]) >= {("inserted", 6)}
    assert after(lines[:-2]) == {("dropped", len(lines) - 1)}
    assert after([*lines[:-1], lines[-1].replace(b"somebody", b"nobodyxx")]) == {
        ("changed", len(lines))
    }
    path.write_bytes(whole)
    assert verify(log).ok


def test_an_earlier_head_finds_a_roll_back(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records")
    log.append("run", {"n": 1}, "somebody")
    before = {f: f.read_bytes() for f in log.folder.rglob("*") if f.is_file()}
    log.append("run", {"n": 2}, "somebody")
    head = log.head()
    assert head is not None and verify(log, [head]).ok
    for file in log.folder.rglob("*.json*"):
        file.unlink()
    for file, data in before.items():
        file.write_bytes(data)
    assert verify(log).ok  # alone it cannot show
    assert [p.kind for p in verify(log, [head]).problems] == ["rolled back"]


def test_keys_are_chained_and_a_signature_cannot_be_left_out(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records")
    first = log.new_key("somebody")
    assert os.stat(log.keys.path).st_mode & 0o777 == 0o600
    log.append("run", {}, "somebody")
    second = log.new_key("somebody")
    log.append("run", {}, "somebody")
    found = verify(log, key=first)
    assert found.ok and found.signed and found.keys == (first, second)
    assert [p.kind for p in verify(log, key="0" * 16).problems] == ["key"]
    log.keys.path.unlink()
    RecordLog(log.folder).append("run", {}, "somebody")
    assert [p.kind for p in verify(log).problems] == ["head"]
    other = RecordLog(tmp_path / "other")
    other.new_key("somebody else")
    log.keys.path.write_bytes(other.keys.path.read_bytes())
    log.keys.path.chmod(0o600)
    forger = RecordLog(log.folder)
    forger.append("run", {}, "somebody")
    assert "head" in {p.kind for p in verify(log).problems}
    log.keys.path.chmod(0o644)
    with pytest.raises(InputError, match="can be read by others"):
        RecordLog(log.folder).append("run", {}, "somebody")


def test_erasing_leaves_a_tombstone(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records")
    for n in range(3):
        log.append("run", {"n": n}, "somebody")
    assert log.erase([3], "asked for", "somebody") is not None
    assert log.payload(3) is None and log.payload(2) is not None
    assert verify(log).ok and verify(log).erased == 1
    assert log.erase([3], "again", "somebody") is None
    with pytest.raises(InputError):
        log.erase([99], "no such", "somebody")
    with pytest.raises(InputError):
        log.erase([1], "the beginning", "somebody")
    log.payload_file(2).unlink()
    assert kinds(log) == {("payload", 2)}


def test_one_record_can_be_shown_without_the_others(tmp_path: Path) -> None:
    log = made(tmp_path / "records", 20)
    for record in log.records():
        seals = {s["day"]: s for s in log.seals()}
        if record.day not in seals:
            with pytest.raises(InputError, match="not sealed"):
                log.proof(record.seq)
            continue
        told = json.loads(json.dumps(log.proof(record.seq)))
        beside = [bytes.fromhex(h) for h in told["path"]]
        top = bytes.fromhex(seals[record.day]["root"])
        leaf = merkle.leaf(told["line"].encode())
        assert merkle.climbs(leaf, told["at"], told["count"], beside, top)
        assert not merkle.climbs(merkle.leaf(b"x"), told["at"], told["count"], beside, top)
        if beside:
            assert not merkle.climbs(leaf, told["at"], told["count"], beside[:-1], top)


def test_the_tree_is_that_of_the_standard() -> None:
    """Roots of RFC 9162's test inputs as other implementations print them (RFC 6962 trees)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
              "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
    leaves = [merkle.leaf(bytes.fromhex(x)) for x in inputs]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for n, root in roots.items():
        assert merkle.root(leaves[:n]).hex() == root
    for n in range(1, 9):
        for at in range(n):
            beside, top = merkle.path(leaves[:n], at), merkle.root(leaves[:n])
            assert merkle.climbs(leaves[at], at, n, beside, top)
            assert not any(
                merkle.climbs(leaves[at], o, n, beside, top) for o in range(n) if o != at
            )


def test_several_processes_write_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    RecordLog(folder).new_key("somebody")
    writers = [appender(folder, 8, f"w{n}") for n in range(3)]
    said = [int(line) for w in writers for line in w.communicate(timeout=120)[0].split()]
    assert sorted(said) == list(range(3, 27))
    assert verify(RecordLog(folder)).ok
    told = [RecordLog(folder).payload(s) for s in said]
    assert {(t["by"], t["n"]) for t in told if t} == {
        (f"w{i}", n) for i in range(3) for n in range(8)
    }


def test_killed_in_the_middle_nothing_said_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    RecordLog(folder).new_key("somebody")
    said = 0
    for wait in (0.0, 0.01, 0.03, 0.05):
        writer = appender(folder, 10_000)
        assert writer.stdout is not None
        said = max(said, int(writer.stdout.readline()))
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        said = max([said, *map(int, writer.communicate()[0].split())])
        log = RecordLog(folder)
        after = log.append("run", {}, "somebody")
        assert after.seq > said
        assert verify(log).ok


def test_any_call_may_fail(tmp_path: Path) -> None:
    """After each failure the next append goes on, and what was said to be there is there."""
    log = RecordLog(tmp_path / "records")
    log.new_key("somebody")
    for n in count():
        fault = Fault(n, KINDS[n % 4], short=bool(n % 2))
        with injected(fault), suppress(StoreError):
            log.append("run", {"n": n}, "somebody")
        if not fault.struck:
            break
        made = log.append("run", {"n": n}, "somebody")  # asked for again: it is there once
        assert made.seq == n + 3
        assert verify(log).ok
    assert n > 10


def test_a_log_that_was_tampered_with_is_not_written_on(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records")
    for n in range(3):
        log.append("run", {"n": n}, "somebody")
    path = log.folder / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(StoreDamaged):
        log.append("run", {}, "somebody")
    path.write_bytes(b"".join(lines[:-1]))  # only the last: its line stands in the head
    assert ("dropped", 4) in kinds(log)
    log.append("run", {}, "somebody")
    assert verify(log).ok
    assert digest(path.read_bytes().splitlines()[3]) == digest(lines[3].rstrip(b"\n"))
