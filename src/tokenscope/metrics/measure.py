"""Scores reduced to numbers where they are: all columns and the alternatives of n positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.backends.protocol import Full, ScoreKind, Scores, Top
from tokenscope.metrics.step import METRICS, Distribution
from tokenscope.metrics.top import FORMS, TopDistribution
from tokenscope.trace.columns import F32, Quality

MADE_VALUES = 1 << 19  # scores made at a time, where they are made only when they are measured


@dataclass(frozen=True, eq=False)
class Measured:
    """n positions reduced to numbers, off the device.

    ``columns``: float32 (n,) by metric; ``quality``: how far each may be trusted. ``ids`` int32
    and ``logprobs`` float32 (n, k): the alternatives, most likely first, of equal ones the smaller
    id first (-1 and -inf where there are fewer).
    """

    columns: Mapping[str, F32]
    quality: Mapping[str, Quality]
    ids: NDArray[np.int32]
    logprobs: F32


def metric_names(kind: ScoreKind) -> tuple[str, ...]:
    """The metrics that full distributions, or only their tops, can give."""
    return METRICS.names() if kind == "full" else tuple(n for n in METRICS.names() if n in FORMS)


def measure(scores: Scores, targets: Any, k: int) -> Measured:
    """All metrics and the top ``k`` of n positions, reduced block by block where the scores are.

    ``targets``: the n ids that came. From full distributions everything is exact; from their tops
    a column is a bound where it has to be, and left out where not even a bound is known.
    """
    if not isinstance(scores, Full):
        return _measure_top(scores, np.asarray(targets, dtype=np.int64), k)
    n, size = (int(x) for x in scores.logits.shape)
    made = max(1, MADE_VALUES // max(size, 1)) if scores.deferred else max(n, 1)
    metrics = list(METRICS)
    columns: list[torch.Tensor] = []
    ids: list[torch.Tensor] = []
    logprobs: list[torch.Tensor] = []
    with torch.inference_mode():
        came = torch.as_tensor(targets)
        for start in range(0, n, made):
            block = torch.as_tensor(scores.block(start, start + made))
            d = Distribution(block, came[start : start + made].to(block.device), k)
            columns.append(torch.stack([function(d) for _, function in metrics]))
            ids.append(d.top[1][:, :k])
            logprobs.append(d.top_logp[:, :k])
        packed: F32 = torch.cat(columns, dim=1).cpu().numpy()
        found = torch.cat(ids).to(torch.int32).cpu().numpy()
        held = torch.cat(logprobs).cpu().numpy()
    names = [name for name, _ in metrics]
    exact: dict[str, Quality] = dict.fromkeys(names, "exact")
    return Measured(dict(zip(names, packed, strict=True)), exact, found, held)


def _measure_top(top: Top, targets: NDArray[np.int64], k: int) -> Measured:
    """The same from tops. Positions without any top are NaN."""
    d = TopDistribution(top, targets)
    blank = (d.count == 0) & ~np.isfinite(d.told)
    columns: dict[str, F32] = {}
    quality: dict[str, Quality] = {}
    for name in METRICS.names():
        if name not in FORMS:
            continue
        values, exact = FORMS.get(name)(d)
        columns[name] = np.where(blank, np.nan, values).astype(np.float32)
        quality[name] = "exact" if bool((exact | blank).all()) else "bound"
    k = min(k, d.ids.shape[1])
    ids = d.ids[:, :k].astype(np.int32)
    return Measured(columns, quality, ids, d.logp[:, :k].astype(np.float32))
