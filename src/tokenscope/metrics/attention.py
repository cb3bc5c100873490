"""Attention rows to the arrays that a trace keeps: the heaviest entries, or everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from tokenscope.backends.protocol import RowBatch, RowsOf
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
    values, where = heaviest(stack, n)
    sink = stack[..., 0]
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
        _rest(values, where, sink).permute(2, 0, 1).cpu().numpy().astype(np.float16),
    )  # fmt: skip


MANY_ROWS = 64  # of fewer the calls would cost more than the search


def heaviest(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` largest of each row of weights (..., C) >= 0, and where, largest first.

    Of many rows numpy finds them in a third of the time that ``topk`` takes: such floats order as
    their bits do, so bits and place make one whole number, and one partition gives both.
    """
    size = rows.shape[-1]
    if rows.device.type != "cpu" or rows.numel() < MANY_ROWS * size or count >= size:
        return rows.topk(count, dim=-1, sorted=True)
    bits = rows.view(torch.int32).to(torch.int64).mul_(1 << 32)
    keys = bits.add_(torch.arange(size - 1, -1, -1)).numpy()  # of equals, the earlier
    keys.partition(size - count, axis=-1)
    best = keys[..., size - count :]
    best.sort(axis=-1)
    found = torch.from_numpy(np.ascontiguousarray(best[..., ::-1]))
    values = (found >> 32).to(torch.int32).view(torch.float32)
    return values, size - 1 - (found & 0xFFFFFFFF)


def _rest(values: torch.Tensor, where: torch.Tensor, sink: torch.Tensor) -> torch.Tensor:
    """The mass that a record leaves out. The sink (key 0) is kept apart, so it counts as recorded
    also where it is not among the heaviest ``values``, whose keys are ``where``."""
    kept = values.sum(dim=-1) + sink.masked_fill((where == 0).any(dim=-1), 0.0)
    return (1.0 - kept).clamp_(min=0.0)


def reduce_some(
    rows: RowsOf, start: int, stop: int, layers: tuple[int, ...], first: int, k: int = TOP_K
) -> Attention:
    """``top`` of rows ``start..stop-1`` of one state in a batch; ``first``: the token of the first.

    All rows of the batch are reduced when the first of its states asks. Raises CapacityError.
    """
    batch = rows.batch
    if k not in batch.held:
        batch.held[k] = _reduce_batch(batch, k)
    found: tuple[Any, ...] = batch.held[k]
    at = slice(rows.start + start, rows.start + stop)
    keys, weights, sink, rest = (a[rows.state, at].copy() for a in found)
    return Attention("top", layers, keys.shape[2], first, weights, keys, sink, rest)


def _reduce_batch(batch: RowBatch, k: int) -> tuple[Any, ...]:
    """Keys, weights (S, Q, L, H, k), sink and rest (S, Q, L, H) of all rows."""
    numbers = torch.as_tensor(batch.keys(), dtype=torch.int64)
    if int(numbers.max()) + 1 >= NO_KEY:
        raise CapacityError(
            f'attention="top" reaches {NO_KEY} keys, not {int(numbers.max()) + 1}', fits=NO_KEY
        )
    stack = torch.stack(batch.weights)  # (L, S, H / g, Q, g, C)
    states, size = numbers.shape
    n = min(k, size)
    values, where = heaviest(stack, n)
    numbers = numbers.to(stack.device)[None, :, None, None, None]
    where = numbers.expand(*stack.shape[:-1], size).gather(-1, where)
    at = (numbers == 0).to(torch.int8).argmax(-1, keepdim=True).expand(*stack.shape[:-1], 1)
    sink = stack.gather(-1, at)[..., 0]

    def out(tensor: torch.Tensor, *last: int) -> Any:
        turned = tensor.movedim((1, 3, 0, 2, 4), (0, 1, 2, 3, 4))  # S, Q, L, H / g, g
        shape = (states, turned.shape[1], turned.shape[2], -1, *last)
        return turned.reshape(shape).cpu().numpy()

    found = out(where, n)
    ends = np.asarray(batch.past)[:, None] + np.arange(found.shape[1]) + 1
    barred = (found < 0) | (found >= ends[:, :, None, None, None])
    keys = np.full((*found.shape[:-1], k), NO_KEY, dtype=np.uint16)
    keys[..., :n] = np.where(barred, NO_KEY, found)
    weights = np.zeros(keys.shape, dtype=np.float16)
    weights[..., :n] = out(values, n)
    rest = out(_rest(values, where, sink)).astype(np.float16)
    return keys, weights, out(sink).astype(np.float16), rest
