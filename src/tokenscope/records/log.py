"""The log in a folder, written to by several processes.

==================  ==========================================================================
``log.jsonl``       one line per record (``chain``), only ever appended to
``head.json``       the last line and its hash, signed where there is a key
``payloads/``       what a record is about, a file each; can be erased, the record stays
``seals.jsonl``     per UTC day that is over: the Merkle root of its lines, signed, chained
``lock``            held while somebody writes
==================  ==========================================================================

Order of an append, under the lock: payload, head (which holds the whole line), line. So the log
is never ahead of its head: a line after the head was put there by somebody else, and a head that
is one line ahead is an append that a crash cut off, which the next one completes.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenscope import disk
from tokenscope.errors import InputError, StoreDamaged
from tokenscope.records import merkle
from tokenscope.records.chain import GENESIS, Record, canonical, digest, parse
from tokenscope.records.keys import Keys, fingerprint

LOG, HEAD, SEALS, PAYLOADS, LOCK, KEY = (
    "log.jsonl", "head.json", "seals.jsonl", "payloads", "lock", "signing-key.pem",
)  # fmt: skip
MOST_LINE = 4096


def somebody() -> str:
    """Who runs this process, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process without a name, in a container
        return "unknown"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log at a moment: keep it elsewhere, and what it covers cannot be rolled back.

    ``line``: the last record's; ``key``: the fingerprint of who signed ("" for nobody).
    """

    seq: int
    hash: str
    line: str
    key: str = ""
    signature: str = ""

    def message(self) -> bytes:
        """What is signed."""
        return canonical({"hash": self.hash, "key": self.key, "line": self.line, "seq": self.seq})

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {"seq": self.seq, "hash": self.hash, "line": self.line, "key": self.key,
                "signature": self.signature}  # fmt: skip

    @classmethod
    def from_json(cls, data: Any) -> Head:
        """Read one back. Raises ValueError where it is none."""
        if not isinstance(data, dict) or set(data) != set(cls.__dataclass_fields__):
            raise ValueError("not a head of a log of records")
        made = cls(**data)
        texts = (made.hash, made.line, made.key, made.signature)
        if isinstance(made.seq, bool) or not isinstance(made.seq, int) or made.seq < 1:
            raise ValueError("its number is none")
        if not all(isinstance(t, str) and t.isascii() for t in texts):
            raise ValueError("a field of it is no text")
        if digest(made.line.encode()) != made.hash:
            raise ValueError("its hash is not that of its line")
        return made


class RecordLog:
    """Append to, read and erase from the log in ``folder``. Safe in threads and processes."""

    def __init__(self, folder: Path, key: Path | None = None) -> None:
        self.folder = folder
        self.keys = Keys(key if key is not None else folder / KEY)
        self._guard = threading.Lock()
        self._open_day: tuple[int, str] | None = None  # the first record not sealed, and its day

    @property
    def begun(self) -> bool:
        """Whether there is a log."""
        return (self.folder / HEAD).exists() or (self.folder / LOG).exists()

    # --- writing --------------------------------------------------------------------------------
    def append(self, kind: str, payload: Mapping[str, Any], who: str) -> Record:
        """One record more; it is on the disk when this returns. The first one begins the log.

        Raises StoreError; StoreDamaged when the end of the log was tampered with.
        """
        with self._locked():
            return self._append(kind, payload, who)

    def new_key(self, who: str) -> str:
        """Make a signing key, or replace it: the old one signs for the new. Its fingerprint."""
        with self._locked():
            public = self.keys.prepare()
            told = {"public": public.hex(), "by": "", "signature": ""}
            if self.keys.there:
                told["by"] = fingerprint(self.keys.public)
                told["signature"] = self.keys.sign(public)
            made = self._append("key", told, who)
            self.keys.take()  # only now: whatever happens, the log knows each key that signs
            self._write_head(made)
        return fingerprint(public)

    def erase(self, seqs: Iterable[int], reason: str, who: str) -> Record | None:
        """Take payloads away for good. What is left: that they were, when, and their digests.

        The tombstone is written first, so that no payload is ever missing without one.
        Returns its record; None where there was nothing to erase. Raises InputError for a record
        that is not there or that tells of keys and erasures.
        """
        with self._locked():
            records = {r.seq: r for r in self.records()}
            gone = self._erased()
            found = sorted({s for s in seqs if s not in gone})
            for seq in found:
                if seq not in records or records[seq].kind in ("begin", "key", "erase"):
                    raise InputError("record", f"{seq} is not one whose payload can be erased")
            if not found:
                return None
            digests = {str(s): records[s].payload for s in found}
            made = self._append("erase", {"erased": digests, "reason": reason}, who)
            for seq in found:
                disk.remove(self.payload_file(seq))
            disk.sync_folder(self.folder / PAYLOADS)
            return made

    def seal(self) -> list[dict[str, Any]]:
        """Seal the days that are over and are not sealed yet; returns the new seals."""
        with self._locked():
            return self._seal(_now()[:10])

    # --- reading --------------------------------------------------------------------------------
    def lines(self) -> Iterator[bytes]:
        """The raw lines, without newlines, as they are; a last one without a newline too."""
        try:
            with open(self.folder / LOG, "rb") as file:
                while line := file.readline(MOST_LINE):
                    yield line[:-1] if line.endswith(b"\n") else line
        except FileNotFoundError:
            return

    def records(self) -> Iterator[Record]:
        """The records. Raises StoreDamaged at a line that is none (``verify`` says more)."""
        for n, line in enumerate(self.lines(), 1):
            found = parse(line)
            if found is None:
                raise StoreDamaged(self.folder / LOG, f"line {n} is not a record")
            yield found

    def payload(self, seq: int) -> dict[str, Any] | None:
        """What a record is about; None where it was erased, or is missing."""
        try:
            data = json.loads(self.payload_file(seq).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreDamaged(self.payload_file(seq), "is not a payload") from error
        return data if isinstance(data, dict) else None

    def head(self) -> Head | None:
        """The head; None before the first record. Raises StoreDamaged."""
        path = self.folder / HEAD
        try:
            data = path.read_bytes()
            found = Head.from_json(json.loads(data))
            if canonical(found.to_json()) != data:
                raise ValueError("is spelt otherwise")
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StoreDamaged(path, "is not the head of a log of records") from error

    def payload_file(self, seq: int) -> Path:
        """Where the payload of a record lies."""
        return self.folder / PAYLOADS / f"{seq:09}.json"

    def proof(self, seq: int) -> dict[str, Any]:
        """That one record belongs to its sealed day, without showing the others.

        Raises InputError where there is no such record or its day is not sealed.
        """
        by_day: dict[str, list[Record]] = {}
        for record in self.records():
            by_day.setdefault(record.day, []).append(record)
        for day, records in by_day.items():
            at = seq - records[0].seq
            if 0 <= at < len(records):
                held = next((s for s in self.seals() if s["day"] == day), None)
                if held is None:
                    raise InputError("record", f"the day of {seq} is not sealed yet")
                beside = merkle.path([merkle.leaf(r.line()) for r in records], at)
                return {
                    "line": records[at].line().decode(), "at": at, "count": len(records),
                    "path": [h.hex() for h in beside], "seal": held,
                }  # fmt: skip
        raise InputError("record", f"there is no record {seq}")

    def seals(self) -> list[dict[str, Any]]:
        """The seals, oldest first. Raises StoreDamaged."""
        path = self.folder / SEALS
        try:
            data = path.read_bytes()
            found = [json.loads(line) for line in data.splitlines()]
            if b"".join(canonical(seal) + b"\n" for seal in found) != data:
                raise ValueError("is spelt otherwise")
            return found
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StoreDamaged(path, "is not a list of seals") from error

    # --- inside the lock --------------------------------------------------------------------------
    @contextmanager
    def _locked(self) -> Iterator[None]:
        disk.make_folder(self.folder)
        disk.make_folder(self.folder / PAYLOADS)
        with self._guard:
            path = self.folder / LOCK
            file = disk.create(path, append=True)
            try:
                with disk.reported(path):
                    fcntl.flock(file, fcntl.LOCK_EX)
                yield
            finally:
                os.close(file)

    def _append(self, kind: str, payload: Mapping[str, Any], who: str) -> Record:
        last, mended = self._completed()
        if mended and last is not None and last.kind == kind:
            held = self.payload(last.seq) or {}
            if {k: v for k, v in held.items() if k != "salt"} == json.loads(canonical(payload)):
                return last  # it is this one that was cut off, and is asked for again
        if last is None and kind != "begin":
            last = self._put("begin", {"format": 1}, who, None)
        made = self._put(kind, payload, who, last)
        self._seal(made.day)
        return made

    def _put(self, kind: str, payload: Mapping[str, Any], who: str, last: Record | None) -> Record:
        seq = last.seq + 1 if last is not None else 1
        body = canonical({**payload, "salt": secrets.token_hex(16)})
        at = max(_now(), last.at) if last is not None else _now()
        prev = digest(last.line()) if last is not None else GENESIS
        made = Record(seq, at, kind, who[:200], digest(body), prev)
        disk.write_whole(self.payload_file(seq), [body])
        self._write_head(made)
        self._write_line(made.line())
        return made

    def _write_head(self, record: Record) -> None:
        line = record.line()
        key = fingerprint(self.keys.public) if self.keys.there else ""
        head = Head(record.seq, digest(line), line.decode(), key)
        if key:
            head = Head(head.seq, head.hash, head.line, key, self.keys.sign(head.message()))
        disk.write_whole(self.folder / HEAD, [canonical(head.to_json())])

    def _write_line(self, line: bytes) -> None:
        path = self.folder / LOG
        file = disk.create(path, append=True)
        try:
            size = os.fstat(file).st_size
            try:
                disk.write(file, line + b"\n", path)
                disk.sync(file, path)
            except BaseException:
                disk.truncate(file, size, path)
                raise
        finally:
            os.close(file)

    def _completed(self) -> tuple[Record | None, bool]:
        """The last record, and whether its append had been cut off and was finished just now.

        Raises StoreDamaged.
        """
        head = self.head()
        path = self.folder / LOG
        size, line = _last_line(path)
        if head is None:
            if size:
                raise StoreDamaged(path, "there are records, but no head of them")
            return None, False
        at_head = parse(head.line.encode())
        if at_head is None or at_head.seq != head.seq:
            raise StoreDamaged(self.folder / HEAD, "does not hold a record")
        held = parse(line) if line is not None else None
        if held is not None and held == at_head:
            return at_head, False
        before = held if line is not None else None
        if line is None and size:  # the write of the last line was torn
            before = self._cut_torn(path)
        hash_before = digest(before.line()) if before is not None else GENESIS
        if at_head.prev != hash_before or (line is not None and held is None):
            raise StoreDamaged(path, "does not end where its head says; see tokenscope verify")
        self._write_line(head.line.encode())
        return at_head, True

    def _cut_torn(self, path: Path) -> Record | None:
        """Cut an unfinished last line off; the record before it."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        file = disk.create(path, append=True)
        try:
            disk.truncate(file, whole, path)
        finally:
            os.close(file)
        lines = data[:whole].splitlines()
        return parse(lines[-1]) if lines else None

    def _seal(self, today: str) -> list[dict[str, Any]]:
        """A seal for every day before ``today`` that has records and none yet."""
        sealed = self.seals()
        after = sealed[-1]["last"] if sealed else 0
        head = self.head()
        if head is None or head.seq <= after:
            return []
        if self._open_day is None or self._open_day[0] != after + 1:
            found = next((r.day for r in self.records() if r.seq == after + 1), today)
            self._open_day = (after + 1, found)
        if self._open_day[1] >= today:
            return []
        days: dict[str, list[Record]] = {}
        for record in self.records():
            if record.seq > after and record.day < today:
                days.setdefault(record.day, []).append(record)
        prev = digest(canonical(sealed[-1])) if sealed else GENESIS
        made = []
        for day, records in sorted(days.items()):
            seal = self._sealed(day, records, prev)
            prev = digest(canonical(seal))
            made.append(seal)
        path = self.folder / SEALS
        disk.write_whole(path, [canonical(s) + b"\n" for s in (*sealed, *made)])
        return made

    def _sealed(self, day: str, records: list[Record], prev: str) -> dict[str, Any]:
        top = merkle.root([merkle.leaf(r.line()) for r in records])
        seal = {"day": day, "first": records[0].seq, "last": records[-1].seq, "root": top.hex(),
                "prev": prev, "key": ""}  # fmt: skip
        if self.keys.there:
            seal["key"] = fingerprint(self.keys.public)
            seal["signature"] = self.keys.sign(canonical(seal))
        return seal

    def _erased(self) -> set[int]:
        out: set[int] = set()
        for record in self.records():
            if record.kind == "erase":
                told = self.payload(record.seq) or {}
                out |= {int(s) for s in told.get("erased", {})}
        return out


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _last_line(path: Path) -> tuple[int, bytes | None]:
    """(size, the last line); None where the file does not end with a newline (or is empty)."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MOST_LINE))
            tail = file.read()
    except FileNotFoundError:
        return 0, None
    if not tail.endswith(b"\n"):
        return size, None
    return size, tail[:-1].rpartition(b"\n")[2]
