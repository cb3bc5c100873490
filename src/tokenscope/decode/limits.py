"""Refusals before anything is allocated: the context, the memory for state and records."""

from __future__ import annotations

import psutil

from tokenscope.backends.protocol import ModelInfo
from tokenscope.errors import CapacityError, InputError
from tokenscope.trace.attention import NO_KEY, top_bytes_per_token

RESERVE = 0.9  # of the memory that is free
GROWTH = 1.5  # a memory that runs full is copied into one of this times its length
LEAST_ROOM = 512  # tokens that the smallest memory has room for


def free_bytes(device: str) -> int:
    """Bytes that may be taken on the model's device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)


def record_bytes(info: ModelInfo, given: int, total: int, attention: str) -> int:
    """Bytes of attention records for the tokens ``given..total-1``."""
    layers, n = len(info.attention_layers), max(total - given, 0)
    if attention == "top":
        return n * top_bytes_per_token(layers, info.heads or 0)
    if attention == "full":
        return layers * (info.heads or 0) * 2 * (total * (total - 1) - given * (given - 1)) // 2
    return 0


def room(info: ModelInfo, given: int, wanted: int, attention: str) -> int:
    """How many tokens may be decoded after ``given`` (at most ``wanted``).

    Raises InputError when nothing was given, CapacityError (with how many tokens would fit) when
    the given tokens fill the context, when the rows reach further than ``top`` can name, or when
    state (with the room that it grows by) and records would not fit in memory.
    """
    if given == 0:
        raise InputError("prompt", "is empty, and this model has no start token to begin from")
    context = info.context if info.context is not None else 1 << 62
    if given > context or (wanted > 0 and given >= context):
        raise CapacityError(
            f"{given} tokens do not fit the context of {context}",
            fits=context - (1 if wanted else 0),
        )
    total = given + min(wanted, context - given)
    if attention == "top" and wanted > 0 and total > NO_KEY:
        raise CapacityError(
            f'attention="top" reaches {NO_KEY} tokens, not {total}; ask for fewer, or for none',
            fits=NO_KEY,
        )
    free = int(free_bytes(info.device) * RESERVE)

    def need(tokens: int) -> int:
        held = max(LEAST_ROOM, int(tokens * GROWTH)) * info.state_bytes_per_token
        return held + record_bytes(info, given, tokens, attention)

    if need(total) > free:
        low, high = 0, total  # the largest number of tokens that fits
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if need(middle) <= free else (low, middle - 1)
        raise CapacityError(
            f"{total} tokens with attention={attention!r} need {need(total) / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free", fits=low,
        )  # fmt: skip
    return total - given
