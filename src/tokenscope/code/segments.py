"""Reductions over many ranges of one row, nested and overlapping ranges included. Vectorised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_PAIRS = 2_000_000  # range entries that are sorted at once: 16 MB a copy, whatever the nesting


def reduce(ufunc: np.ufunc, values: F64, low: I64, high: I64, empty: float) -> F64:
    """float64 (G,): ``ufunc.reduce(values[low[g]:high[g]])``, ``empty`` for an empty range.

    ``reduceat`` over interleaved bounds adds every range on its own: no differences of running
    sums, so no cancellation. Linear in the lengths of the ranges.
    """
    if len(low) == 0:
        return np.zeros(0)
    bounds = np.empty(2 * len(low), dtype=np.int64)
    bounds[0::2], bounds[1::2] = low, high
    padded = np.append(values, 0.0)  # a bound may be the end
    out: F64 = ufunc.reduceat(padded, bounds)[0::2].astype(np.float64)
    out[low >= high] = empty
    return out


def sums(counts: I64, low: I64, high: I64) -> I64:
    """int64 (G,): the integer sums of ranges; differences of a running sum are exact here."""
    total = np.append(0, np.cumsum(counts))
    out: I64 = total[high] - total[low]
    return out


def runs(token: NDArray[np.int32], low: I64, high: I64) -> tuple[NDArray[np.int32], I64, I64]:
    """Each token once: the tokens of consecutive equal cells, and the ranges over those.

    Tokens ascend within a range, so ``high - low`` of what comes back counts distinct tokens.
    """
    if len(token) == 0:
        return token, np.zeros_like(low), np.zeros_like(high)
    new = np.append(True, token[1:] != token[:-1])
    run = np.cumsum(new) - 1
    filled = low < high
    first = np.where(filled, run[np.minimum(low, len(token) - 1)], 0)
    last = np.where(filled, run[np.maximum(high, 1) - 1] + 1, 0)
    return token[new], first.astype(np.int64), last.astype(np.int64)


def ordered(
    values: F64, low: I64, high: I64, top: int, quantiles: Sequence[float]
) -> tuple[F64, F64]:
    """(G,) mean of the ``top`` largest values, and (G, Q) quantiles (linear, as numpy's default).

    All values are ranked once; then the entries of the ranges are sorted by (range, rank) as one
    integer key, in chunks of bounded size, so that deep nesting costs time but no memory.
    """
    groups = len(low)
    best = np.full(groups, np.nan)
    cuts = np.full((groups, len(quantiles)), np.nan)
    if len(values) == 0 or groups == 0:
        return best, cuts
    sorted_values = np.sort(values)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    size = high - low
    total = np.cumsum(size)
    begin = 0
    while begin < groups:
        before = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + _PAIRS, side="right")))
        length = size[begin:end]
        offset = np.append(0, np.cumsum(length))
        owner = np.repeat(np.arange(end - begin), length)
        entry = np.arange(offset[-1]) - offset[owner] + low[begin:end][owner]
        key = np.sort(owner * len(values) + rank[entry])
        v = sorted_values[key - owner * len(values)]
        filled = length > 0
        first, count = offset[:-1][filled], length[filled]
        k = np.minimum(count, top)
        best[begin:end][filled] = reduce(np.add, v, first + count - k, first + count, 0.0) / k
        for i, q in enumerate(quantiles):
            place = q * (count - 1)
            floor = np.floor(place).astype(np.int64)
            a, b = v[first + floor], v[first + np.minimum(floor + 1, count - 1)]
            cuts[begin:end, i][filled] = a + (b - a) * (place - floor)
        begin = end
    return best, cuts
