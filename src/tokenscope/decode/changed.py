"""The distribution that tokens are drawn from, told beside them: what an exploration of it reads.

Between the model's own distribution and a draw stand edits inside the model, masks and biases,
penalties, temperature and truncation. Metrics are of the model's own; here is the other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.decode.draws import truncated
from tokenscope.decode.sampling import Sampler, penalised

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Likeliest:
    """Take the likeliest token of the distribution that is drawn from, with no draw, and tell its
    ``k`` likeliest. ``path``: tokens that are taken first, as long as each has any probability."""

    k: int
    path: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One position: the ``token`` that was taken and ln q of it; the K likeliest ``ids`` int32 (K,)
    with ``logq`` float64 (K,), -1 and -inf where fewer are left; ``entropy`` of q, nats."""

    token: int
    own: float
    ids: NDArray[np.int32]
    logq: F64
    entropy: float


def look(
    asked: Likeliest, sampler: Sampler, logits: torch.Tensor, seen: Sequence[int],
    wanted: int | None,
) -> Row:  # fmt: skip
    """The row of float32 (V,) ``logits``, as edits leave them. ``wanted``: taken if it has any
    probability (None: the likeliest is). Without a temperature q is the softmax itself."""
    q = distribution(sampler, logits, seen)
    size = min(asked.k, len(q))
    # of equals the smaller id first, as everywhere
    least = np.partition(q, len(q) - size)[len(q) - size]
    found = np.nonzero((q >= least) & (q > -np.inf))[0]
    found = found[np.argsort(-q[found], kind="stable")][:size]
    ids = np.full(asked.k, -1, dtype=np.int32)
    logq = np.full(asked.k, -np.inf)
    ids[: len(found)], logq[: len(found)] = found, q[found]
    token = int(found[0])
    if wanted is not None and wanted < len(q) and q[wanted] > -np.inf:
        token = wanted
    held = q[q > -np.inf]
    return Row(token, float(q[token]), ids, logq, float(-(np.exp(held) * held).sum()))


def distribution(sampler: Sampler, logits: torch.Tensor, seen: Sequence[int]) -> F64:
    """ln q float64 (V,) of what would be drawn from; -inf where nothing is."""
    z = logits
    if sampler.repetition_penalty != 1.0 and len(seen):
        z = penalised(z, seen, sampler.repetition_penalty)
    if sampler.temperature == 0.0:
        whole: F64 = torch.log_softmax(z.to(torch.float64), dim=-1).cpu().numpy()
        return whole
    ids, logq = truncated([sampler], z[None])
    if ids is None:
        whole = logq[0]
        return whole
    out: F64 = np.full(z.shape[0], -np.inf)
    out[ids[0]] = logq[0]
    return out
