"""Is the log what was written? Every change, loss, swap, insertion and roll-back, by its record.

A line is *confirmed* when the line after it, or the head, names its hash. So of two lines that do
not fit together it is known which one was changed. What a log alone cannot show: that its end was
taken off together with the head, or that all of it was made anew. For that a head (or the
fingerprint of the key) that was kept elsewhere is compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenscope.errors import StoreDamaged
from tokenscope.records import merkle
from tokenscope.records.chain import GENESIS, Record, canonical, digest, parse
from tokenscope.records.keys import fingerprint, verified
from tokenscope.records.log import HEAD, PAYLOADS, SEALS, Head, RecordLog

Kind = Literal[
    "changed", "dropped", "swapped", "inserted", "rolled back", "payload", "head", "seal", "key",
    "trace",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not fit. ``seq``: the record (0: the log as a whole)."""

    kind: Kind
    seq: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"kind": self.kind, "seq": self.seq, "message": self.message}


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what does not fit. ``keys``: fingerprints, oldest first."""

    records: int
    erased: int
    sealed_days: int
    traces: int
    keys: tuple[str, ...]
    signed: bool
    head: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "ok": self.ok, "records": self.records, "erased": self.erased,
            "sealed_days": self.sealed_days, "traces": self.traces, "keys": list(self.keys),
            "signed": self.signed, "head": self.head,
            "problems": [p.to_json() for p in self.problems], "notes": list(self.notes),
        }  # fmt: skip


@dataclass
class _Check:
    """The state of one verification."""

    log: RecordLog
    problems: list[Problem] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    records: list[Record | None] = field(default_factory=list)
    payloads: dict[int, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)

    def say(self, kind: Kind, seq: int, message: str) -> None:
        if not any((p.kind, p.seq) == (kind, seq) != (kind, 0) for p in self.problems):
            self.problems.append(Problem(kind, seq, message))


def verify(
    log: RecordLog,
    heads: Iterable[Head] = (),
    key: str = "",
    compare: Callable[[dict[str, Any]], list[str] | None] | None = None,
) -> Verified:
    """Check a whole log. ``heads``: kept elsewhere before; ``key``: a fingerprint that must be
    among its keys. ``compare(payload)``: what of the run's trace, or of the last audit's files,
    differs from what was recorded; [] for nothing, None where it is not there. Raises StoreError
    when it cannot be read."""
    check = _Check(log)
    check.lines = list(log.lines())
    check.records = [parse(line) for line in check.lines]
    head = _head(check)
    _chain(check, head)
    erased = _payloads(check)
    _keys(check, key)
    signed = _signature(check, head)
    days = _seals(check)
    for other in heads:
        _kept(check, other)
    traces = 0
    last = max((s for s, p in check.payloads.items() if "files" in p), default=0)
    for seq, payload in check.payloads.items():
        if compare is None or ("ids" not in payload and seq != last):
            continue
        found = compare(payload)
        if found is not None:
            traces += 1
        if found:
            what = ", ".join(found[:5])
            check.say("trace", seq, f"what record {seq} tells of was changed: {what}")
    notes = []
    if not check.keys and check.lines:
        notes.append(
            "the log is not signed: whoever can write its folder could have made all of it anew; "
            "make a key, and keep heads elsewhere"
        )
    elif not heads and not key:
        notes.append("no head that was kept elsewhere was compared: a roll-back of the whole "
                     "folder to an earlier copy would not show")  # fmt: skip
    return Verified(
        len(check.lines), erased, days, traces, tuple(check.keys), signed,
        head.hash if head is not None else "", tuple(check.problems), tuple(notes),
    )  # fmt: skip


def _head(check: _Check) -> Head | None:
    try:
        head = check.log.head()
    except StoreDamaged:
        check.say("head", 0, f"{HEAD} is not the head of a log")
        return None
    if head is None and check.lines:
        check.say("head", 0, f"there are records, but no {HEAD}")
    return head


def _chain(check: _Check, head: Head | None) -> None:
    """Numbers and hashes of all lines, and where the head says that they end."""
    lines, records = check.lines, check.records
    hashes = [digest(line) for line in lines]
    seen: dict[int, int] = {}
    expected = 1
    for n, record in enumerate(records):
        if record is None:
            check.say("changed", expected, f"line {n + 1} is not a record")
            expected += 1
            continue
        _number(check, n, record, expected, seen)
        expected = max(expected, record.seq + 1)
        before = records[n - 1] if n else None
        prev = hashes[n - 1] if n else GENESIS
        if record.prev == prev:
            if before is not None and record.at < before.at:
                check.say(
                    "changed", record.seq, f"record {record.seq} is older than the one before"
                )
            continue
        if n and (before is None or record.seq != before.seq + 1):
            continue  # said already: the line before is none, or is not the one that belongs here
        # what follows a line vouches for it: then the one before it is what was changed
        wrong = record.seq - 1 if n and _confirmed(n, hashes, records, head) else record.seq
        check.say("changed", wrong, f"record {wrong} was changed")
    if head is None:
        return
    last = next((r for r in reversed(records) if r is not None), None)
    at = last.seq if last is not None else 0
    if at < head.seq:
        lost = f"{at + 1}" if head.seq == at + 1 else f"{at + 1} to {head.seq}"
        check.say(
            "dropped", at + 1, f"the head covers {head.seq} records; missing at the end: {lost}"
        )
    elif at > head.seq:
        check.say("inserted", head.seq + 1,
                  f"records after the head: {head.seq + 1} to {at}")  # fmt: skip
    elif hashes and hashes[-1] != head.hash:
        check.say("changed", at, f"record {at} was changed: it is not the one that the head names")


def _number(check: _Check, n: int, record: Record, expected: int, seen: dict[int, int]) -> None:
    if record.seq in seen:
        check.say("inserted", record.seq, f"line {n + 1} is a second record {record.seq}")
    elif record.seq > expected:
        later = {r.seq for r in check.records[n + 1 :] if r is not None}
        missing = [s for s in range(expected, record.seq) if s not in later]
        moved = [s for s in range(expected, record.seq) if s in later]
        if missing:
            named = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
            check.say("dropped", missing[0], f"records are missing before line {n + 1}: {named}")
        if moved:
            check.say("swapped", record.seq, f"record {record.seq} stands before record {moved[0]}")
    elif record.seq < expected and record.seq not in seen:
        check.say("swapped", record.seq, f"record {record.seq} stands after record {expected - 1}")
    seen[record.seq] = n


def _confirmed(n: int, hashes: list[str], records: list[Record | None], head: Head | None) -> bool:
    """Whether what follows line ``n`` names its hash."""
    if n + 1 < len(records):
        after = records[n + 1]
        return after is not None and after.prev == hashes[n]
    return head is not None and head.hash == hashes[n]


def _payloads(check: _Check) -> int:
    """Every payload is there and the one that was recorded, or was erased. How many were erased."""
    erased: dict[int, str] = {}
    missing: list[Record] = []
    for record in check.records:
        if record is None:
            continue
        try:
            data = check.log.payload_file(record.seq).read_bytes()
        except OSError:
            missing.append(record)
            continue
        if digest(data) != record.payload:
            check.say("payload", record.seq, f"the payload of record {record.seq} was changed")
            continue
        payload = json.loads(data)
        check.payloads[record.seq] = payload
        if record.kind == "erase":
            erased |= {int(s): d for s, d in payload["erased"].items()}
    for record in missing:
        if erased.get(record.seq) != record.payload:
            check.say("payload", record.seq, f"the payload of record {record.seq} is missing, and "
                      "no record says that it was erased")  # fmt: skip
    for seq in erased:
        if seq in check.payloads:
            check.say("payload", seq, f"record {seq} was erased, but its payload is there")
    known = {f"{r.seq:09}.json" for r in check.records if r is not None}
    folder = check.log.folder / PAYLOADS
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.suffix == ".json" and file.name not in known and not file.name.startswith("."):
            check.say("payload", 0, f"a payload belongs to no record: {file.name[:40]}")
    return len([r for r in missing if r.seq in erased])


def _keys(check: _Check, wanted: str) -> None:
    """The chain of keys: each but the first is signed for by the one before."""
    before = b""
    kinds = {r.seq: r.kind for r in check.records if r is not None}
    for seq, payload in sorted(check.payloads.items()):
        if kinds[seq] != "key":
            continue
        try:
            public = bytes.fromhex(payload["public"])
        except (KeyError, ValueError):
            check.say("key", seq, f"record {seq} holds no key")
            continue
        if before and not verified(before, public, str(payload.get("signature", ""))):
            check.say("key", seq, f"the key of record {seq} is not signed for by the one before it")
        check.keys[fingerprint(public)] = before = public
    if wanted and wanted not in check.keys:
        check.say("key", 0, f"the key {wanted[:16]} is not among those of the log")


def _signature(check: _Check, head: Head | None) -> bool:
    if head is None:
        return False
    if not head.key:
        if check.keys:
            check.say("head", head.seq, "the head is not signed, although the log has a key")
        return False
    public = check.keys.get(head.key)
    if public is None or not verified(public, head.message(), head.signature):
        check.say("head", head.seq, "the signature of the head is not by a key of the log")
        return False
    return True


def _seals(check: _Check) -> int:
    """Roots of the days that are over. How many there are."""
    by_seq = {r.seq: line for r, line in zip(check.records, check.lines, strict=True) if r}
    days = {r.seq: r.day for r in check.records if r is not None}
    try:
        seals = check.log.seals()
    except StoreDamaged:
        check.say("seal", 0, f"{SEALS} is not a list of seals")
        return 0
    prev, upto = GENESIS, 0
    for seal in seals:
        try:
            day, first, last = str(seal["day"]), int(seal["first"]), int(seal["last"])
            root, before, key = str(seal["root"]), str(seal["prev"]), str(seal["key"])
        except (KeyError, TypeError, ValueError):
            check.say("seal", 0, "a seal lacks a field")
            return len(seals)
        held = [by_seq[s] for s in range(first, last + 1) if s in by_seq]
        if first != upto + 1 or before != prev:
            check.say("seal", first, f"the seal of {day} does not follow the one before")
        whole = len(held) == last - first + 1
        if not whole or merkle.root([merkle.leaf(x) for x in held]).hex() != root:
            check.say("seal", first, f"the records of {day} are not those that were sealed")
        elif any(days[s] != day for s in range(first, last + 1)):
            check.say("seal", first, f"the seal of {day} covers records of another day")
        plain = {k: v for k, v in seal.items() if k != "signature"}
        if key:
            public = check.keys.get(key)
            signature = str(seal.get("signature", ""))
            if public is None or not verified(public, canonical(plain), signature):
                check.say("seal", first, f"the seal of {day} is not signed by a key of the log")
        prev, upto = digest(canonical(seal)), last
    if days:
        final = days[max(days)]
        open_days = sorted({d for s, d in days.items() if s > upto and d < final})
        for day in open_days:
            check.say("seal", 0, f"the day {day} is over, and its seal is missing")
    return len(seals)


def _kept(check: _Check, head: Head) -> None:
    """A head that was kept elsewhere: its record must be in the log, and unchanged."""
    if head.key:
        public = check.keys.get(head.key)
        if public is None or not verified(public, head.message(), head.signature):
            check.say("key", head.seq, "the head that was kept is not signed by a key of the log")
    found = [
        line for r, line in zip(check.records, check.lines, strict=True)
        if r is not None and r.seq == head.seq
    ]  # fmt: skip
    if not found:
        check.say("rolled back", head.seq, f"record {head.seq}, which the head that was kept "
                  "covers, is not there: the log was rolled back")  # fmt: skip
    elif digest(found[0]) != head.hash:
        check.say("rolled back", head.seq, f"record {head.seq} is another than when the head was "
                  "kept: the log was rewritten")  # fmt: skip
