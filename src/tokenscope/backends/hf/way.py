"""In which form a model is loaded: what was asked for if it fits, else the widest that does."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tokenscope.backends import room
from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.backends.hf.memory import Shape, least, need, shape_of
from tokenscope.errors import CapacityError, InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INT8, DISK = "int8", "disk"
KNOWN = (*DTYPES, INT8)
CONTEXT = 2048  # tokens that are counted with, or the model's own context if that is shorter
SHARE = 0.9  # of what is free: the rest is for everybody else


@dataclass(frozen=True, slots=True)
class Way:
    """``name``: float32, bfloat16, float16 or int8; ``kind``: the type of what is computed.
    ``resident``: bytes of weights that stay in memory, None for all. ``pack``: whether a second,
    packed copy may be made. ``note``: why, in a sentence."""

    name: str
    kind: torch.dtype
    note: str
    resident: int | None = None
    pack: bool = True


def choose(
    checkpoint: Checkpoint, wanted: str | None, device: torch.device, ceiling: int | None = None,
    together: int | None = None,
) -> Way:  # fmt: skip
    """How to load it. ``ceiling``: bytes that the whole process may take (on a CPU). ``together``:
    bytes that are free on several cards.

    Raises InputError for an unknown number type, CapacityError for what would swap.
    """
    asked = None if wanted == "auto" else wanted
    if asked is not None and asked not in KNOWN:
        raise InputError("dtype", f"{asked[:40]!r}; known: {', '.join(KNOWN)}")
    if device.type != "cpu":
        if ceiling is not None:
            raise InputError("max-memory", "is for models on the CPU")
        return _on_card(checkpoint, asked, device, together)
    shape = shape_of(checkpoint)
    context = min(shape.context or CONTEXT, CONTEXT)
    if ceiling is not None:
        return _below(checkpoint, shape, context, asked, ceiling)
    free = room.free()
    for name in (asked,) if asked else ("float32", "bfloat16", INT8):
        assert name is not None
        wants = need(shape, name, context)
        if wants.model - wants.packed <= SHARE * free:
            return _whole(name, asked, f"{(wants.model - wants.packed) / 1e9:.1f} GB")
    raise CapacityError(
        f"{checkpoint.path.name}: it takes {(wants.model - wants.packed) / 1e9:.1f} GB as {name}, "
        f"and {free / 1e9:.1f} GB are free; it would swap. With --max-memory what does not fit is "
        "read from the disk at every pass"
        + ("" if asked is None else f", or leave --dtype {asked} out")
    )


def _whole(name: str, asked: str | None, size: str) -> Way:
    kind = DTYPES.get(name, torch.float32)
    why = {
        "float32": "the fast and exact choice on a CPU, and it fits",
        "bfloat16": "float32 would not fit in memory",
        INT8: "bfloat16 would not fit in memory",
    }
    return Way(name, kind, f"{name}: {'as asked' if asked else why[name]} ({size})")


def _below(
    checkpoint: Checkpoint, shape: Shape, context: int, asked: str | None, ceiling: int
) -> Way:
    """The widest form whose whole process stays below the ceiling; else part of it on the disk."""
    for name in (asked,) if asked else ("float32", "bfloat16", INT8):
        wants = need(shape, name, context)
        for pack in (True, False):
            total = wants.total if pack else wants.total - wants.packed
            if total <= ceiling:
                kind = DTYPES.get(name, torch.float32)
                note = f"{name}: about {total / 1e9:.2f} GB of the {ceiling / 1e9:.2f} GB allowed"
                return Way(name, kind, note, None, pack)
    if asked == INT8:
        raise CapacityError(
            f"{checkpoint.path.name}: as int8 the process takes {wants.total / 1e9:.2f} GB of the "
            f"{ceiling / 1e9:.2f} GB allowed, and int8 is not read from the disk piece by piece; "
            "leave --dtype out"
        )
    name = asked or "float32"
    rest = ceiling - least(shape, name, context).total
    table = shape.embedding * DTYPES[name].itemsize
    if rest < table:
        lowest = ceiling - rest + table
        raise CapacityError(
            f"{checkpoint.path.name}: --max-memory {ceiling / 1e9:.2f} GB is too little: even "
            f"with the layers on the disk it takes {lowest / 1e9:.2f} GB"
        )
    note = f"{name} with {rest / 1e9:.2f} GB of weights in memory: the rest stays on the disk"
    return Way(name, DTYPES[name], note, rest, False)


def _on_card(
    checkpoint: Checkpoint, asked: str | None, device: torch.device, together: int | None
) -> Way:
    """As stored, unless asked otherwise; the columns are computed in float32 all the same."""
    free = together or (
        int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else room.free()
    )
    name, why = asked or "", "as asked"
    if asked is None:
        name, why = "bfloat16" if "BF16" in checkpoint.dtypes else "float16", "as stored"
        if set(checkpoint.dtypes) == {"F32"} and checkpoint.values * 4 <= free * 0.7:
            name = "float32"
    kind = DTYPES.get(name, torch.float32)
    size = checkpoint.values * (1 if name == INT8 else kind.itemsize)
    if size > free * 0.95:
        raise CapacityError(
            f"{checkpoint.path.name}: its weights need {size / 1e9:.1f} GB as {name}, "
            f"{free / 1e9:.1f} GB are free on {device}"
        )
    return Way(name, kind, f"{name}: {why}")
