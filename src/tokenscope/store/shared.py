"""A session as one file: handed on, and taken in again.

``TSSESSN1``, the length of a JSON head (8 bytes, little-endian), the head, then the traces as
``Trace.to_bytes`` writes them, one after the other. Nothing is believed of such a file: every trace
goes through the guarded reader, and a branch has to begin as its parent does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenscope.errors import InputError
from tokenscope.store.rows import NodeRow, SessionRow
from tokenscope.store.store import Store
from tokenscope.trace import Trace

MAGIC = b"TSSESSN1"
MOST_HEAD = 8 << 20
MOST_BRANCHES = 2000
MOST_TITLE, MOST_NOTE = 200, 10_000
FORMS = ("plain", "infill", "chat", "score")


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch of a file. ``parent``: index of an earlier one, None for a root."""

    trace: Trace
    parent: int | None = None
    at: int = 0
    title: str = ""
    note: str = ""
    starred: bool = False
    form: str = "plain"


def pack(row: SessionRow, branches: Iterable[tuple[NodeRow, Trace]]) -> bytes:
    """The session as a file; a branch whose parent is not among them becomes a root."""
    held = list(branches)
    place = {n.id: i for i, (n, _) in enumerate(held)}
    traces = [trace.to_bytes() for _, trace in held]
    head = {
        "title": row.title,
        "branches": [
            {
                "size": len(data), "parent": place.get(n.parent or ""), "at": n.at,
                "title": n.title, "note": n.note, "starred": n.starred, "form": n.form,
            }
            for (n, _), data in zip(held, traces, strict=True)
        ],
    }  # fmt: skip
    text = json.dumps(head, ensure_ascii=True).encode()
    return b"".join([MAGIC, len(text).to_bytes(8, "little"), text, *traces])


def unpack(data: bytes) -> tuple[str, list[Branch]]:
    """(title, branches) of what :func:`pack` made, or of one trace file. Raises InputError."""
    if not data.startswith(MAGIC):
        return "", [Branch(Trace.from_bytes(data))]
    head, rest = _head(data)
    found: list[Branch] = []
    for entry in head["branches"]:
        size = _whole(entry, "size")
        if size > len(rest):
            raise InputError("file", "ends too early")
        found.append(_branch(entry, Trace.from_bytes(bytes(rest[:size])), found))
        rest = rest[size:]
    if len(rest):
        raise InputError("file", "holds more than its head says")
    return _words(head, "title", MOST_TITLE), found


def take_in(store: Store, data: bytes) -> str:
    """Put what is in a file into a new session. Returns its id. Raises InputError, StoreError."""
    title, branches = unpack(data)
    session = store.new_session(title or "Imported").id
    made: list[str] = []
    try:
        for b in branches:
            parent = made[b.parent] if b.parent is not None else None
            shared = b.trace.cut(b.at) if parent is not None else None
            recording = store.begin(
                session, b.trace.origin, form=b.form, language=b.trace.language, parent=parent,
                at=b.at, shared=shared,
            )  # fmt: skip
            row = recording.finish(b.trace, b.trace.finish)
            store.annotate(row.id, b.title, b.note, b.starred)
            made.append(row.id)
    except BaseException:
        store.delete_session(session)
        raise
    return session


def _head(data: bytes) -> tuple[Mapping[str, Any], memoryview]:
    start = len(MAGIC) + 8
    size = int.from_bytes(data[len(MAGIC) : start], "little")
    if size > min(MOST_HEAD, len(data) - start):
        raise InputError("file", "has a head that is too large, or cut short")
    try:
        head = json.loads(data[start : start + size])
        branches = head["branches"]
        known = isinstance(branches, list) and all(isinstance(b, dict) for b in branches)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError("file", "has no readable head") from None
    if not known or not 1 <= len(branches) <= MOST_BRANCHES:
        raise InputError("file", f"holds no list of 1 to {MOST_BRANCHES} branches")
    return head, memoryview(data)[start + size :]


def _branch(entry: Mapping[str, Any], trace: Trace, before: list[Branch]) -> Branch:
    parent = None if entry.get("parent") is None else _whole(entry, "parent")
    at = _whole(entry, "at")
    if parent is not None:
        if parent >= len(before):
            raise InputError("file", "has a branch before its parent")
        above = before[parent].trace
        if at > min(len(above), len(trace)) or list(above.ids[:at]) != list(trace.ids[:at]):
            raise InputError("file", "has a branch that does not begin as its parent does")
    form = entry.get("form")
    return Branch(
        trace, parent, at if parent is not None else 0, _words(entry, "title", MOST_TITLE),
        _words(entry, "note", MOST_NOTE), entry.get("starred") is True,
        str(form) if form in FORMS else "plain",
    )  # fmt: skip


def _whole(entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise InputError("file", f"has no whole number for {name}")
    return value


def _words(entry: Mapping[str, Any], name: str, most: int) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
        raise InputError("file", f"has no text for {name}")
    return value[:most]
