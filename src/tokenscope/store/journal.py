"""What a running branch has measured so far, appended step by step.

A record is written *before* its step is shown to anybody, so the death of the process loses
nothing that was seen; records are synced in groups (a quarter of a second or 32 tokens), which
bounds what a power cut can take.

::

    record = magic | length u32le | crc32 of the body u32le | body (a trace file of some tokens)

A record that could not be written whole is cut back. A torn or damaged one in the middle hides
nothing that follows: reading goes on at the next magic whose record is whole.
"""

from __future__ import annotations

import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope import disk
from tokenscope.errors import InputError, StoreError, StoreFailing
from tokenscope.trace import Alternatives, Origin, Part, Tokens, Trace
from tokenscope.trace.container import Array, Source, Stored, pack, unpack
from tokenscope.trace.files import COLUMN, checked, content
from tokenscope.trace.join import join

log = logging.getLogger(__name__)
MAGIC = b"\xf5TSJ"
FRAME = struct.Struct("<4sII")
# before there was a magic: length and crc32 only
OLD_FRAME = struct.Struct("<II")
GROUP_SECONDS = 0.25
GROUP_TOKENS = 32
NOTHING = Tokens.of([], [])


class Journal:
    """The file of one running branch, open for appending. Used by one thread.

    Every method raises StoreError; after one, what was written before is still there, and only
    :meth:`close` may follow.
    """

    def __init__(self, path: Path, origin: Origin, language: str, shared: int) -> None:
        self.path = path
        self._file = disk.create(path, append=True)
        self._end = os.fstat(self._file).st_size
        self._known: set[int] = set()
        self._pending = 0
        self._since = time.monotonic()
        self._failed = False
        self.shared = shared
        self.tokens = shared
        self.committed = shared
        try:
            # the first record: no tokens, but where they come from
            self._write(Part(shared, NOTHING, {}), origin=origin.to_json(), language=language)
            disk.sync(self._file, path)
            disk.sync_folder(path.parent)
        except StoreError:
            self.close()
            raise

    def append(self, part: Part) -> bool:
        """Write one part. True when a group was completed, so that ``committed`` has grown."""
        table = part.alternatives
        if table is not None:  # the bytes of every id go in once
            new = [i for i in np.unique(table.ids).tolist() if i >= 0 and i not in self._known]
            table = Alternatives(
                table.ids, table.logprobs,
                {i: table.pieces[i] for i in new if i in table.pieces},
                {i: table.labels[i] for i in new if i in table.labels},
            )  # fmt: skip
            self._write(replace(part, alternatives=table))
            self._known.update(new)
        else:
            self._write(part)
        self.tokens = part.start + len(part.tokens)
        self._pending += len(part.tokens)
        due = time.monotonic() - self._since >= GROUP_SECONDS
        return self.commit() if due or self._pending >= GROUP_TOKENS else False

    def _write(self, part: Part, **about: Any) -> None:
        if self._failed:
            raise StoreFailing(self.path, "an earlier write failed")
        head, arrays = content(part)
        body = b"".join(pack({**head, **about, "shared": self.shared}, arrays))
        frame = FRAME.pack(MAGIC, len(body), zlib.crc32(body))
        try:
            disk.write(self._file, frame + body, self.path)
        except StoreError:
            self._failed = True
            with suppress(StoreError):  # if this fails, too, reading passes over the torn record
                disk.truncate(self._file, self._end, self.path)
            raise
        self._end += len(frame) + len(body)

    def commit(self) -> bool:
        """Bring everything written to the disk. True when that was anything new."""
        self._since = time.monotonic()
        if self._pending == 0 or self._failed:
            return False
        try:
            disk.sync(self._file, self.path, growing=True)
        except StoreError:
            # after a failed sync the kernel may drop what it could not write and say nothing the
            # next time: never believe this file again
            self._failed = True
            raise
        self._pending = 0
        self.committed = self.tokens
        return True

    def close(self) -> None:
        """Close the file; it stays on the disk."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@dataclass(frozen=True)
class Held:
    """What a journal holds. ``shared``: how many tokens the branch has from its parent.

    ``cut``: bytes that could not be read; ``end``: where the last whole record ends.
    """

    parts: tuple[Part, ...] = ()
    shared: int = 0
    origin: Origin | None = None
    language: str = ""
    cut: int = 0
    end: int = 0

    def after(self, base: Trace | None) -> Trace:
        """The trace: ``base`` (the shared tokens), then everything in the journal."""
        return join(base, self.parts, origin=self.origin, language=self.language)


def read(path: Path) -> Held:
    """Everything whole in a journal; nothing when there is no file. Raises StoreError."""
    try:
        with disk.reported(path):
            data = path.read_bytes()
    except StoreError:
        if path.parent.is_dir() and not path.exists():
            return Held()
        raise
    parts: list[Part] = []
    held, read_bytes = Held(), 0
    for start, end, body in _records(data):
        try:
            head, part = checked(*_unfolded(*unpack(Source(path.name, body))), path.name)
            first = not parts and held.origin is None
            if "origin" in head and first:
                held = replace(
                    held, origin=Origin.from_json(head["origin"]),
                    language=str(head.get("language", "")),
                )  # fmt: skip
        except (InputError, ValueError, TypeError, AttributeError, KeyError):
            continue
        read_bytes += end - start
        shared = int(head.get("shared", part.start if first else held.shared))
        held = replace(held, shared=shared, end=end)
        if len(part.tokens) and (not parts or part.start >= _end(parts[-1])):
            parts.append(part)
    cut = len(data) - read_bytes
    if cut:
        log.warning("%s: %d bytes of torn or damaged records were left out", path.name, cut)
    return replace(held, parts=tuple(parts), cut=cut)


def _unfolded(
    head: dict[str, Any], arrays: dict[str, Stored]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """A record of format 1, whose columns were one array with their names beside it."""
    if head.get("format") != 1:
        return head, {**arrays}
    rows = dict(arrays)
    columns = rows.pop(COLUMN, None)
    named = {COLUMN + n: columns[i] for i, n in enumerate(head["names"])} if columns else {}
    return {**head, "prompt": head["n_prompt"] > 0}, {**rows, **named}


def _end(part: Part) -> int:
    return part.start + len(part.tokens)


def _records(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Start, end and body of every whole record."""
    view, at = memoryview(data), 0
    if data and data[: len(MAGIC)] != MAGIC and MAGIC not in data:
        while len(frame := view[at : at + OLD_FRAME.size]) == OLD_FRAME.size:
            size, check = OLD_FRAME.unpack(frame)
            body = view[at + OLD_FRAME.size : at + OLD_FRAME.size + size]
            if len(body) != size or zlib.crc32(body) != check:
                return
            yield at, at + OLD_FRAME.size + size, body
            at += OLD_FRAME.size + size
        return
    while (at := data.find(MAGIC, at)) >= 0 and len(data) - at >= FRAME.size:
        _, size, check = FRAME.unpack_from(data, at)
        body = view[at + FRAME.size : at + FRAME.size + size]
        if len(body) == size and zlib.crc32(body) == check:
            yield at, at + FRAME.size + size, body
            at += FRAME.size + size
        else:
            at += 1  # torn: the next magic may stand right inside what it claims to hold
