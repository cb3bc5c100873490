"""Trace files of format 1: a zip of ``trace.json`` and ``.npy`` arrays. Read only.

Sizes are looked at before anything is inflated, and the little headers of the arrays are matched
rather than evaluated.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError
from tokenscope.trace.container import MOST_AXES, MOST_HEADER, NAMES, parsed

HEADER = "trace.json"
MAGIC = b"PK\x03\x04"
# real traces shrink to a third at most; without a bound 9 MB become 2.5 GB
MOST_RATIO = 20
SMALL = 64 << 20
MOST_MEMBERS = 1000
_NPY = re.compile(
    rb"\{'descr': '([<|][fiu][1248])', 'fortran_order': False, "
    rb"'shape': \(([0-9, ]{0,80})\), *\} *\n"
)


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays. Raises InputError that names the file and the cause."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            head = parsed(archive.read(HEADER), str(path))
            return head, {
                name[:-4]: _array(archive, info, path)
                for name, info in members.items()
                if name != HEADER
            }
    except (
        OSError, ValueError, EOFError, KeyError, RuntimeError, IndexError, OverflowError,
        zipfile.BadZipFile, zlib.error, struct.error,
    ) as error:  # fmt: skip
        raise InputError(str(path), f"is no saved trace ({type(error).__name__})") from error


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    found = {i.filename: i for i in infos}
    if len(infos) > MOST_MEMBERS or len(found) != len(infos):
        raise InputError(str(path), "holds too many parts, or one of them twice")
    for name, info in found.items():
        if name != HEADER and not name.endswith(".npy"):
            raise InputError(str(path), f"holds {name[:80]!r}, which is no part of a trace")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(str(path), f"{name[:80]!r} is packed in a way that is not read here")
    if found[HEADER].file_size > MOST_HEADER:
        raise InputError(str(path), "its header is too large")
    total = sum(i.file_size for i in infos)
    if total > SMALL + MOST_RATIO * path.stat().st_size:
        raise InputError(str(path), f"would unfold to {total >> 20} MiB")
    return found


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    wrong = InputError(str(path), f"array {info.filename[:80]!r} makes no sense")
    with archive.open(info) as member:
        start = member.read(10)
        if len(start) != 10 or start[:8] != b"\x93NUMPY\x01\x00":
            raise wrong
        size = int.from_bytes(start[8:], "little")
        said = _NPY.fullmatch(member.read(size))
        if said is None:
            raise wrong
        dtype = np.dtype(said[1].decode())
        shape = tuple(int(n) for n in said[2].split(b",") if n.strip())
        rest = math.prod(shape) * dtype.itemsize
        if dtype not in NAMES or not 1 <= len(shape) <= MOST_AXES:
            raise wrong
        if rest != info.file_size - 10 - size:
            raise wrong
        data = member.read(rest)
        if len(data) != rest or member.read(1):  # the last read checks the sum
            raise wrong
    return np.frombuffer(data, dtype).reshape(shape)
