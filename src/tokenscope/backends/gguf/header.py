"""What a GGUF file says of itself, read from its head without llama.cpp and without its weights.

Long lists (the vocabulary, its merges) are stepped over, every count is bounded, and nothing is
kept but plain values. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from tokenscope.errors import ModelError

# what `general.file_type` says
FILE_TYPES = {
    "0": "float32", "1": "float16", "2": "Q4_0", "3": "Q4_1", "7": "Q8_0", "8": "Q5_0",
    "9": "Q5_1", "10": "Q2_K", "11": "Q3_K_S", "12": "Q3_K_M", "13": "Q3_K_L", "14": "Q4_K_S",
    "15": "Q4_K_M", "16": "Q5_K_S", "17": "Q5_K_M", "18": "Q6_K", "32": "bfloat16",
}  # fmt: skip
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
           11: "<q", 12: "<d"}  # fmt: skip
STRING, LIST = 8, 9
MAX_ENTRIES = 100_000
MAX_TEXT = 1 << 20
MAX_LIST = 1 << 24
KEPT_TEXT = 100_000

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """``values``: scalars and texts by key; ``lists``: how long each list is; ``parameters``: how
    many numbers all tensors hold together; ``size``: bytes of the file."""

    path: Path
    values: Mapping[str, Value]
    lists: Mapping[str, int]
    parameters: int
    size: int

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the family."""
        return str(self.values.get("general.architecture", ""))

    def number(self, key: str) -> int | None:
        """A whole number of this architecture, such as ``context_length``; None if not told."""
        found = self.values.get(f"{self.architecture}.{key}")
        return found if type(found) is int else None

    @property
    def kind(self) -> str:
        """The name of its weights' format."""
        told = str(self.values.get("general.file_type", ""))
        return FILE_TYPES.get(told, f"GGUF type {told}" if told else "GGUF")


def read_header(path: Path) -> GgufHeader:
    """Raises ModelError where the file is none, cut short, or claims what cannot be."""
    try:
        with open(path, "rb") as file:
            return _read(path, file, path.stat().st_size)
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error.strerror})") from None
    except (struct.error, UnicodeDecodeError, ValueError):
        raise ModelError(path, "has a damaged GGUF header") from None


def _read(path: Path, file: BinaryIO, size: int) -> GgufHeader:
    if file.read(4) != b"GGUF":
        raise ModelError(path, "is no GGUF file")
    (version,) = _take(file, "<I")
    if version not in (2, 3):
        raise ModelError(path, f"is of GGUF version {version}; 2 and 3 are known")
    tensors, entries = _take(file, "<QQ")
    if max(tensors, entries) > MAX_ENTRIES:
        raise ModelError(path, f"claims more than {MAX_ENTRIES} tensors or keys")
    values: dict[str, Value] = {}
    lists: dict[str, int] = {}
    for _ in range(entries):
        key = _text(file, 1 << 16)
        (kind,) = _take(file, "<I")
        if kind == LIST:
            lists[key] = _skip_list(file)
        elif kind == STRING:
            values[key] = _text(file, MAX_TEXT)[:KEPT_TEXT]
        else:
            (values[key],) = _take(file, SCALARS.get(kind, ""))
    parameters = 0
    for _ in range(tensors):
        _text(file, 1 << 16)
        (rank,) = _take(file, "<I")
        if rank > 8:
            raise ValueError
        parameters += prod(_take(file, f"<{rank}Q"))
        _take(file, "<IQ")
    return GgufHeader(path, values, lists, parameters, size)


def _take(file: BinaryIO, form: str) -> tuple[int, ...]:
    if not form:
        raise ValueError
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _text(file: BinaryIO, most: int) -> str:
    (length,) = _take(file, "<Q")
    if length > most:
        raise ValueError
    raw = file.read(length)
    if len(raw) < length:
        raise ValueError
    return raw.decode("utf-8", "replace")


def _skip_list(file: BinaryIO) -> int:
    """Step over a list; its length."""
    kind, length = _take(file, "<IQ")
    if length > MAX_LIST or kind == LIST:
        raise ValueError
    if kind != STRING:
        file.seek(length * struct.calcsize(SCALARS.get(kind, "") or "x"), 1)
        return length
    for _ in range(length):
        (size,) = _take(file, "<Q")
        if size > MAX_TEXT:
            raise ValueError
        file.seek(size, 1)
    return length
