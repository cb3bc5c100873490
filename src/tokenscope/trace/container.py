"""One file of named arrays and a JSON header: the safetensors layout. Never a pickle.

::

    length of the header u64le | header JSON | the arrays, one after another, little-endian

Chosen over a zip because nothing in it unfolds: a file of 9 MB never becomes 2.5 GB, every size is
known before anything is read, and an array can be read in part. The large ones (attention) are
read with ``pread`` when they are asked for rather than mapped: a failing disk or a file cut short
then is an error, where a mapped page would kill the process. Any safetensors library reads it.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.disk import failure
from tokenscope.errors import InputError, StoreDamaged

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MOST_HEADER = 16 << 20  # labels of 100,000 special tokens take 3 MB; JSON unfolds about 25-fold
MOST_AXES = 4
PIECE = 4 << 20
_encoded = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Source:
    """Bytes that are read by place: a file that stays open, or bytes in memory."""

    def __init__(self, name: str, data: bytes | memoryview | None = None, file: int = -1) -> None:
        self.name = name
        self._data = memoryview(data) if data is not None else None
        self._file = file
        self.size = len(self._data) if self._data is not None else os.fstat(file).st_size

    @classmethod
    def open(cls, path: Path) -> Source:
        """A regular file. Raises InputError that names it."""
        try:
            # a pipe must not make us wait for somebody to write into it
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(str(path), f"cannot be read ({reason})") from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise InputError(str(path), "is no file")
        return cls(str(path), file=file)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def read(self, start: int, size: int) -> bytes | memoryview:
        """Exactly these bytes. Raises InputError when they are not there, StoreError when the
        disk fails or the file was cut short after it was opened."""
        if self._data is not None:
            found: bytes | memoryview = self._data[start : start + size]
        else:
            try:
                found = os.pread(self._file, size, start)
                while len(found) < size and (more := os.pread(
                    self._file, size - len(found), start + len(found)
                )):  # fmt: skip
                    found += more
            except OSError as error:
                raise failure(error, Path(self.name)) from error
        if len(found) != size and self._data is None and start + size <= self.size:
            raise StoreDamaged(self.name, f"it was cut short: {size} bytes expected at {start}")
        if len(found) != size:
            raise InputError(self.name, f"ends too early: {size} bytes expected at {start}")
        return found


@dataclass(frozen=True, eq=False)
class Stored:
    """An array that lies in a file and is read when it is asked for: ``x[i]``, ``asarray(x)``.

    A slice of the first axis stays in the file.
    """

    source: Source
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file; none of them is held in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> Any:
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        if isinstance(key, slice):
            lo, hi, _ = key.indices(self.shape[0])
            n = max(0, hi - lo)
            return Stored(self.source, self.dtype, (n, *self.shape[1:]), self.start + lo * row)
        i = range(self.shape[0])[key]
        return Stored(self.source, self.dtype, self.shape[1:], self.start + i * row).load()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self.load()
        return found if dtype is None else found.astype(dtype, copy=False)

    def load(self) -> NDArray[Any]:
        """The whole array in memory, read-only."""
        data = self.source.read(self.start, self.nbytes)
        return np.frombuffer(data, self.dtype).reshape(self.shape)


Array = NDArray[Any] | Stored
Arrays = Mapping[str, Sequence[Array]]
"""By name, the pieces that follow one another along the first axis."""


def pack(head: Mapping[str, Any], arrays: Arrays) -> Iterator[bytes | memoryview]:
    """The bytes of a file, piece by piece; arrays that lie in a file pass through in pieces."""
    about: dict[str, Any] = {"__metadata__": {"head": _encoded(head)}}
    # the widest first, so that every array is aligned
    order = sorted(arrays, key=lambda n: (-arrays[n][0].dtype.itemsize, n))
    at = 0
    for name in order:
        first = arrays[name][0]
        size = sum(a.nbytes for a in arrays[name])
        about[name] = {
            "dtype": NAMES[first.dtype.newbyteorder("<")],
            "shape": [sum(len(a) for a in arrays[name]), *first.shape[1:]],
            "data_offsets": [at, at + size],
        }
        at += size
    text = _encoded(about).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        for array in arrays[name]:
            yield from _pieces(array)


def _pieces(array: Array) -> Iterator[memoryview]:
    if isinstance(array, Stored):
        for start in range(0, array.nbytes, PIECE):
            size = min(PIECE, array.nbytes - start)
            yield memoryview(array.source.read(array.start + start, size))
        return
    whole = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if whole.nbytes:
        yield whole.reshape(-1).view(np.uint8).data


def unpack(source: Source) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Header and arrays (none of them read yet). Raises InputError that names what is wrong."""
    size = int.from_bytes(source.read(0, 8), "little")
    if not 2 <= size <= min(MOST_HEADER, source.size - 8):
        raise InputError(source.name, f"a header of {size} bytes cannot be")
    about = parsed(bytes(source.read(8, size)), source.name)
    metadata = about.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("head"), str):
        raise InputError(source.name, "has no header of a trace")
    arrays = {name: _stored(source, 8 + size, name, entry) for name, entry in about.items()}
    at = 8 + size
    for name, array in sorted(arrays.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if array.start != at:
            raise InputError(source.name, f"array {name[:80]!r} does not follow the one before it")
        at += array.nbytes
    if at != source.size:
        raise InputError(source.name, f"{source.size} bytes where its header promises {at}")
    return parsed(metadata["head"].encode(errors="surrogatepass"), source.name), arrays


def _stored(source: Source, base: int, name: str, entry: Any) -> Stored:
    wrong = InputError(source.name, f"the entry of array {name[:80]!r} makes no sense")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise wrong
    shape, place = entry["shape"], entry["data_offsets"]
    for numbers in (shape, place):
        if not isinstance(numbers, list) or not all(
            type(n) is int and 0 <= n < 1 << 48 for n in numbers
        ):
            raise wrong
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None or len(shape) > MOST_AXES or not shape or len(place) != 2:
        raise wrong
    if math.prod(shape) * dtype.itemsize != place[1] - place[0]:
        raise wrong
    return Stored(source, dtype, tuple(shape), base + place[0])


def parsed(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object of finite numbers and whole characters. Raises InputError."""

    def no_constant(_: str) -> None:
        raise ValueError("not a finite number")

    try:
        found = json.loads(text, parse_constant=no_constant)
        # what cannot be written again (1e999, half a character) must not get in
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(name, "its header is no JSON") from error
    if not isinstance(found, dict):
        raise InputError(name, "its header is no JSON object")
    return found
