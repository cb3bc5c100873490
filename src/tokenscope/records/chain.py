"""One record of the log: a line of JSON that names the hash of the line before it.

A line is canonical (sorted keys, no spaces, ASCII), so there is one spelling of a record, and a
flipped byte anywhere is either no record or another hash. The line holds no content, only the
digest of its payload, which lies in a file of its own and can be erased without breaking the chain
(a hash chain as in Haber & Stornetta 1991).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

GENESIS = "0" * 64
FIELDS = ("at", "kind", "payload", "prev", "seq", "who")
KINDS = ("begin", "run", "audit", "key", "erase", "recovered")


def canonical(data: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON object."""
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """``seq`` from 1 on; ``at`` UTC, ISO 8601 with microseconds; ``payload`` and ``prev`` SHA-256
    of the payload's bytes and of the line before (``GENESIS`` for the first)."""

    seq: int
    at: str
    kind: str
    who: str
    payload: str
    prev: str

    def line(self) -> bytes:
        """Its line, without the newline."""
        return canonical(asdict(self))

    @property
    def day(self) -> str:
        """The UTC day, YYYY-MM-DD."""
        return self.at[:10]


def parse(line: bytes) -> Record | None:
    """The record of a line; None where it is not exactly the line of a record."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or tuple(sorted(data)) != FIELDS:
        return None
    seq = data["seq"]
    words = [data[name] for name in FIELDS if name != "seq"]
    if (
        isinstance(seq, bool)
        or not isinstance(seq, int)
        or not all(isinstance(w, str) for w in words)
    ):
        return None
    made = Record(**data)
    return made if made.line() == line and made.kind in KINDS else None
