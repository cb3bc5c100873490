"""Attention rows to the arrays that a trace keeps: the heaviest entries, or everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from tokenscope.errors import CapacityError
from tokenscope.trace.attention import NO_KEY, TOP_K, Attention


def reduce_rows(
    rows: Sequence[Any],
    layers: tuple[int, ...],
    first: int,
    form: Literal["top", "full"],
    k: int = TOP_K,
) -> Attention:
    """The record of the tokens ``first..first+r-1`` from the rows of r consecutive queries.

    ``rows``: one float32 (H, r, first+r-1), a tensor or an array, per attention layer; row j
    belongs to the query at ``first - 1 + j``, so its keys from ``first + j`` on are 0. Raises
    CapacityError when ``top`` is asked over more keys than uint16 can name.
    """
    stack = torch.stack([torch.as_tensor(r) for r in rows])  # (L, H, r, keys)
    count, keys = stack.shape[2], stack.shape[3]
    if form == "full":
        half = stack.to(torch.float16).cpu().numpy()
        flat = [half[:, :, j, : first + j].reshape(-1) for j in range(count)]
        return Attention("full", layers, half.shape[1], first, np.concatenate(flat))
    if keys >= NO_KEY:
        raise CapacityError(f'attention="top" reaches {NO_KEY} keys, not {keys}', fits=NO_KEY)
    n = min(k, keys)
    values, where = stack.topk(n, dim=-1, sorted=True)
    sink = stack[..., 0]
    # the sink is kept apart, so it counts as recorded also where it is not among the heaviest
    kept = values.sum(dim=-1) + sink.masked_fill((where == 0).any(dim=-1), 0.0)
    numbers = where.permute(2, 0, 1, 3).cpu().numpy()
    ends = (first + np.arange(count))[:, None, None, None]
    shape = (count, *stack.shape[:2], k)
    out_keys = np.full(shape, NO_KEY, dtype=np.uint16)
    out_keys[..., :n] = np.where(numbers < ends, numbers, NO_KEY)
    out_weights = np.zeros(shape, dtype=np.float16)
    out_weights[..., :n] = values.permute(2, 0, 1, 3).cpu().numpy()
    return Attention(
        "top", layers, int(stack.shape[1]), first, out_weights, out_keys,
        sink.permute(2, 0, 1).cpu().numpy().astype(np.float16),
        (1.0 - kept).clamp_(min=0.0).permute(2, 0, 1).cpu().numpy().astype(np.float16),
    )  # fmt: skip
