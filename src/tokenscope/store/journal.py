"""What a running branch has measured so far, appended step by step.

A record is written *before* its step is shown to anybody, so the death of the process loses
nothing that was seen; records are fsynced in groups (a quarter of a second or 32 tokens), which
bounds what a power cut can take. A torn record at the end is left out when reading back.

::

    record = length u32le | crc32 u32le | safetensors bytes
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from tokenscope.store.arrays import packed, sync_folder
from tokenscope.trace import Alternatives, Column, Origin, Part, Tokens, Trace
from tokenscope.trace.files import arrays, build, header
from tokenscope.trace.join import join

FRAME = struct.Struct("<II")
COLUMN = "column."
GROUP_SECONDS = 0.25
GROUP_TOKENS = 32


class Journal:
    """The file of one running branch, open for appending."""

    def __init__(self, path: Path, origin: Origin, language: str, shared: int) -> None:
        self._file = open(path, "ab", buffering=0, opener=_private)  # noqa: SIM115
        sync_folder(path.parent)
        self._known: set[int] = set()
        self._pending = 0
        self._since = time.monotonic()
        self.tokens = shared
        self.committed = shared
        # the first record: no tokens, but where they come from
        empty = Trace(Tokens.of([], []), 0, origin=origin, language=language)
        self._write(empty, shared)

    def append(self, part: Part) -> bool:
        """Write one part. True when a group was completed, so that ``committed`` has grown."""
        table = part.alternatives
        if table is not None:  # the bytes of every id go in once
            new = [int(i) for i in np.unique(table.ids) if i >= 0 and int(i) not in self._known]
            self._known.update(new)
            table = Alternatives(
                table.ids, table.logprobs,
                {i: table.pieces[i] for i in new if i in table.pieces},
                {i: table.labels[i] for i in new if i in table.labels},
            )  # fmt: skip
        fragment = Trace(
            part.tokens, len(part.tokens) if part.prompt else 0,
            {n: Column(n, v, part.quality.get(n, "exact")) for n, v in part.columns.items()},
            table, part.attention,
        )  # fmt: skip
        self._write(fragment, part.start)
        self.tokens = part.start + len(part.tokens)
        self._pending += len(part.tokens)
        due = time.monotonic() - self._since >= GROUP_SECONDS
        return self.commit() if due or self._pending >= GROUP_TOKENS else False

    def _write(self, fragment: Trace, start: int) -> None:
        data = arrays(fragment)
        names = [n for n in data if n.startswith(COLUMN)]
        if names:  # one array of all columns: a third of the time of one array each
            data[COLUMN] = np.stack([data.pop(n) for n in names])
        body = packed(data, {"start": start, "names": names, **header(fragment)})
        self._file.write(FRAME.pack(len(body), zlib.crc32(body)) + body)

    def commit(self) -> bool:
        """Bring everything written to the disk. True when that was anything new."""
        self._since = time.monotonic()
        if self._pending == 0:
            return False
        os.fdatasync(self._file.fileno())
        self._pending = 0
        self.committed = self.tokens
        return True

    def close(self) -> None:
        """Close the file; it stays on the disk."""
        self._file.close()


def start(path: Path) -> int:
    """How many tokens the branch has from its parent (0 when the journal holds all of it)."""
    for head, _ in records(path):
        return int(head["start"])
    return 0


def records(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
    """Header and arrays of the whole records, in order; stops at the first torn one."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return
    with file:
        while len(frame := file.read(FRAME.size)) == FRAME.size:
            size, check = FRAME.unpack(frame)
            body = file.read(size)
            if len(body) != size or zlib.crc32(body) != check:
                return
            try:
                yield _unpacked(body)
            except (SafetensorError, ValueError, KeyError):
                return


def read(path: Path, base: Trace) -> Trace:
    """``base`` (the shared part; empty for a root) followed by everything in the journal."""
    parts: list[Part] = []
    origin = language = None
    for head, data in records(path):
        fragment = build(head, data)
        if origin is None:
            origin, language = fragment.origin, fragment.language
        parts.append(_part(fragment, int(head["start"])))
    if origin is None:
        return base
    return join(base if len(base) else None, parts, origin=origin, language=language)


def _part(fragment: Trace, start: int) -> Part:
    return Part(
        start, fragment.tokens, {n: c.values for n, c in fragment.columns.items()},
        fragment.alternatives, fragment.attention, fragment.n_prompt > 0,
        {n: c.quality for n, c in fragment.columns.items()},
    )  # fmt: skip


def _unpacked(body: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    # the metadata sits in the JSON header of the safetensors format
    size = int.from_bytes(body[:8], "little")
    head = json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["head"])
    data = load(body)
    data |= zip(head["names"], data.pop(COLUMN, ()), strict=True)
    return head, data


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
