"""Messages between the two processes: JSON and arrays, never pickles.

::

    frame = length of head u32le | length of body u64le | head (JSON) | body (arrays, end to end)

``head["arrays"]`` lists shape and dtype of each array, in order.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

FRAME = struct.Struct("<IQ")
MAX_HEAD = 1 << 28
MAX_BODY = 1 << 34


def send(
    pipe: BinaryIO, head: dict[str, Any], arrays: Sequence[NDArray[Any]] = (), raw: bytes = b""
) -> None:
    """Write one frame; ``raw`` bytes stand after the arrays."""
    solid = [np.ascontiguousarray(a) for a in arrays]
    head = {**head, "arrays": [[list(a.shape), a.dtype.str] for a in solid], "raw": len(raw)}
    text = json.dumps(head).encode()
    pipe.write(FRAME.pack(len(text), sum(a.nbytes for a in solid) + len(raw)))
    pipe.write(text)
    for a in solid:
        pipe.write(a.tobytes())
    pipe.write(raw)
    pipe.flush()


def receive(pipe: BinaryIO) -> tuple[dict[str, Any], list[NDArray[Any]], bytes]:
    """Read one frame. Raises EOFError when the other side is gone, ValueError for nonsense."""
    head_size, body_size = FRAME.unpack(_exactly(pipe, FRAME.size))
    if head_size > MAX_HEAD or body_size > MAX_BODY:
        raise ValueError("a frame of impossible size")
    head: dict[str, Any] = json.loads(_exactly(pipe, head_size))
    body = _exactly(pipe, body_size)
    arrays, at = [], 0
    for shape, kind in head["arrays"]:
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(body, dtype, count, at).reshape(shape))
        at += count * dtype.itemsize
    return head, arrays, bytes(body[at : at + head["raw"]])


def _exactly(pipe: BinaryIO, size: int) -> bytearray:
    out = bytearray()  # writable, so that arrays over it are too
    while len(out) < size:
        part = pipe.read(min(size - len(out), 1 << 24))
        if not part:
            raise EOFError
        out += part
    return out
