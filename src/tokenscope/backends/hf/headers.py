"""What a safetensors file says it holds, read from its bounded header without touching a tensor."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tokenscope.errors import ModelError

MAX_HEADER = 16 << 20
MAX_TENSORS = 100_000
MAX_DIMENSION = 1 << 40
# Bits of one stored value (the format packs the 4- and 6-bit kinds without gaps).
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16,
    "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as its file declares it; ``start`` and ``stop`` are byte offsets in the data."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def read_header(path: Path) -> dict[str, Stored]:
    """Tensors by name. Raises ModelError where the header and the file do not fit together."""
    size, length, table = _table(path)
    table.pop("__metadata__", None)
    if len(table) > MAX_TENSORS:
        raise ModelError(path, f"holds more than {MAX_TENSORS} tensors")
    found = {name: _entry(path, name, entry) for name, entry in table.items()}
    at = 0
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != at:
            cause = "overlaps another" if tensor.start < at else "leaves a hole before it"
            raise ModelError(path, f"tensor {name[:80]!r} {cause}")
        at = tensor.stop
    if 8 + length + at != size:
        cause = "is truncated" if 8 + length + at > size else "has bytes after its last tensor"
        raise ModelError(path, f"{cause}: {size} bytes, expected {8 + length + at}")
    return found


def data_begins(path: Path) -> int:
    """Where the tensors begin in a file whose header was read before. Raises ModelError."""
    return 8 + _table(path)[1]


def _table(path: Path) -> tuple[int, int, dict[str, Any]]:
    """(size of the file, length of its header, the header)."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(8)
            if len(head) < 8:
                raise ModelError(path, "is truncated: no header")
            (length,) = struct.unpack("<Q", head)
            if length > MAX_HEADER:
                raise ModelError(
                    path, f"header of {length} bytes is over the limit of {MAX_HEADER}"
                )
            raw = file.read(length)
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error.strerror})") from None
    if len(raw) < length:
        raise ModelError(path, "is truncated inside its header")
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        raise ModelError(path, "has a header that is no JSON") from None
    if not isinstance(table, dict):
        raise ModelError(path, "has a header that is no JSON object")
    return size, length, table


def _entry(path: Path, name: str, entry: Any) -> Stored:
    label = f"tensor {name[:80]!r}"
    try:
        kind, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ModelError(path, f"has a broken entry for {label}") from None
    numbers = [*shape, start, stop] if isinstance(shape, list) else [None]
    if not all(type(n) is int and 0 <= n < MAX_DIMENSION for n in numbers) or len(numbers) > 10:
        raise ModelError(path, f"has a broken entry for {label}")
    if not isinstance(kind, str) or kind not in BITS:
        raise ModelError(path, f"has an unknown dtype for {label}")
    stored = Stored(path, kind, tuple(shape), start, stop)
    if stop < start:
        raise ModelError(path, f"has wrong offsets for {label}")
    if (stop - start) * 8 != stored.values * BITS[kind]:
        raise ModelError(path, f"has a wrong size for {label}")
    return stored


def by_name(files: tuple[Path, ...]) -> Mapping[str, Stored]:
    """All tensors of some files. Raises ModelError when two files hold the same name."""
    out: dict[str, Stored] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in out:
                other = out[name].file.name
                raise ModelError(file, f"holds tensor {name[:80]!r}, which {other} holds too")
            out[name] = tensor
    return out
