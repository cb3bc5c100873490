"""Traces as files: one safetensors file each. Arrays and JSON, never pickles.

Written to a temporary name, fsynced, renamed: a file with its right name is whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tokenscope.errors import InputError, StoreError
from tokenscope.trace import Trace
from tokenscope.trace.files import arrays, build, header

SUFFIX = ".safetensors"


def packed(data: dict[str, NDArray[Any]], head: dict[str, Any]) -> bytes:
    """Arrays and a JSON header as the bytes of a safetensors file."""
    whole = {n: np.ascontiguousarray(a) for n, a in data.items()}
    return save(whole, metadata={"head": json.dumps(head, allow_nan=False)})


def write(trace: Trace, target: Path) -> None:
    """Write a trace; after a crash there is either no file or the whole one."""
    temporary = target.with_suffix(".part")
    with open(temporary, "wb", opener=_private) as file:
        file.write(packed(arrays(trace), header(trace)))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    sync_folder(target.parent)


def read(path: Path) -> Trace:
    """Read what :func:`write` wrote. Raises StoreError that names the file."""
    try:
        with safe_open(path, framework="np") as file:
            head = json.loads((file.metadata() or {})["head"])
            # the file is mapped: only what is used is read from the disk
            return build(head, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, InputError) as error:
        raise StoreError(f"{path}: cannot be read back ({type(error).__name__})") from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
