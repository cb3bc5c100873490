"""The draws of one pass, of all its runs together: each as it would be made alone.

The draw is the Gumbel-max trick (Gumbel 1954; Maddison 2014): the largest of ln q(v) + g_v, where
the noise g depends on nothing but (seed, position, v). So a draw does not depend on what else runs,
and two branches with the same seed share their luck: where their distributions agree they draw the
same token (coupled counterfactuals; Oberst & Sontag 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

F64 = NDArray[np.float64]
SORTABLE = 4096  # of more tokens, those that top-p certainly drops are not sorted


class Truncation(Protocol):
    """What of a sampler (``decode.sampling``) the draw needs; no penalty."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def seed(self) -> int: ...


def draws(
    samplers: Sequence[Truncation], positions: Sequence[int], logits: torch.Tensor
) -> tuple[list[int], list[float]]:
    """ids and ln q of the tokens at ``positions`` from float32 (n, V) logits, a sampler each.

    Greedy rows take the largest logit (of equals the smaller id), and their ln q is NaN: nothing
    was changed.
    """
    ids, logq = [0] * len(samplers), [math.nan] * len(samplers)
    kinds: dict[tuple[bool, ...], list[int]] = {}
    for n, s in enumerate(samplers):
        kind = (s.temperature > 0.0, s.top_k > 0, s.top_p < 1.0, s.min_p > 0.0)
        kinds.setdefault(kind if kind[0] else (False,), []).append(n)
    for (drawn, *_), rows in kinds.items():
        z = logits if len(rows) == len(samplers) else logits[rows]
        if not drawn:  # numpy's argmax takes a tenth of the time of torch's
            best = z.numpy().argmax(1) if z.device.type == "cpu" else z.argmax(1).cpu().numpy()
            for n, i in zip(rows, best.tolist(), strict=True):
                ids[n] = i
            continue
        mine = [samplers[n] for n in rows]
        kept, held = truncated(mine, z)
        raw = np.stack([
            _raw(s.seed, positions[n], int(z.shape[1])) for s, n in zip(mine, rows, strict=True)
        ])  # fmt: skip
        noise = _gumbel(raw if kept is None else np.take_along_axis(raw, kept, axis=1))
        best = (held + noise).argmax(axis=1)
        at = np.arange(len(rows))
        found = best if kept is None else kept[at, best]
        for n, i, q in zip(rows, found.tolist(), held[at, best].tolist(), strict=True):
            ids[n], logq[n] = i, q
    return ids, logq


def gumbel(seed: int, position: int, size: int) -> F64:
    """float64 (size,) standard Gumbel noise that (seed, position) fix, on every machine.

    Counter-based: Philox4x64-10 (Salmon 2011) with the seed as key and the position in the
    counter's second word; a raw word w gives the uniform (floor(w / 2^11) + 1/2) / 2^53.
    """
    return _gumbel(_raw(seed, position, size))


def _raw(seed: int, position: int, size: int) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.random.Philox(key=seed, counter=position << 64).random_raw(size)
    return found


def _gumbel(raw: NDArray[np.uint64]) -> F64:
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: F64 = -np.log(-np.log(uniform))
    return noise


def truncated(
    samplers: Sequence[Truncation], logits: torch.Tensor
) -> tuple[NDArray[np.int64] | None, F64]:
    """(ids, ln q float64), both (n, C), of what survives truncation; ids None: all tokens.

    Samplers that truncate by the same means, each by its own amount; ids rise, and rows that keep
    fewer than C are filled up with id 0 and ln q -inf. The same tokens survive as in transformers:
    top-k keeps what ties with the k-th; top-p drops, from the least likely on (of equals the later
    id first), what sums to at most 1 - top_p (Holtzman 2020).
    """
    first = samplers[0]
    z = logits.to(torch.float64)
    heat = _column([s.temperature for s in samplers], z)
    z = (z - z.amax(1, keepdim=True)) / heat  # shifted first: a tiny heat must not overflow
    ids: torch.Tensor | None = None
    if first.top_k:
        most = [min(s.top_k, z.shape[1]) for s in samplers]
        last = torch.tensor(most, device=z.device)[:, None] - 1
        z, ids = _packed(z >= z.topk(max(most), dim=1).values.gather(1, last), z, ids)
    if first.top_p < 1.0:
        z, ids = _packed(nucleus(z, _column([s.top_p for s in samplers], z)), z, ids)
    if first.min_p > 0.0:
        p = torch.softmax(z, dim=1)
        least = _column([s.min_p for s in samplers], z) * p.amax(1, keepdim=True)
        z, ids = _packed(p >= least, z, ids)
    logq: F64 = torch.log_softmax(z, dim=1).cpu().numpy()
    return None if ids is None else ids.cpu().numpy(), logq


def nucleus(z: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """bool (n, C): the most likely tokens of each row that hold ``top_p`` (n, 1), at least one."""
    p = torch.softmax(z, dim=1)
    kept = torch.zeros_like(p, dtype=torch.bool)
    spare = 1.0 - top_p
    dropped: torch.Tensor | float = 0.0
    places: torch.Tensor | None = None
    if z.shape[1] > SORTABLE:  # all below half of an even share of the rest go in any case
        sure = p <= spare / (2 * z.shape[1])
        dropped = p.masked_fill(~sure, 0.0).sum(1, keepdim=True)
        z, places = _packed(~sure, z, None)
        p = p.gather(1, places).masked_fill_(z == -torch.inf, 0.0)
    order = torch.sort(z, dim=1, descending=True, stable=True).indices.flip(1)
    gone = dropped + p.gather(1, order).cumsum(1) <= spare
    gone[:, -1] = False
    row, n = (~gone).nonzero(as_tuple=True)
    at = order[row, n]
    kept[row, at if places is None else places[row, at]] = True
    return kept


def _packed(
    keep: torch.Tensor, z: torch.Tensor, ids: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is kept of (n, C), moved to the left: values, -inf behind them, and ids, 0 there."""
    row, place = keep.nonzero(as_tuple=True)
    counts = keep.sum(1)
    slot = torch.arange(len(row), device=z.device) - (counts.cumsum(0) - counts)[row]
    shape = (len(z), int(counts.max()))
    values = z.new_full(shape, -torch.inf)
    values[row, slot] = z[row, place]
    found = torch.zeros(shape, dtype=torch.int64, device=z.device)
    found[row, slot] = place if ids is None else ids[row, place]
    return values, found


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
