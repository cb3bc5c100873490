"""Heads on random tokens said twice: what copies does a head look for, whatever the text?

Olsson 2022 (arXiv 2209.11895): on ``r r`` with r random, nothing but the repetition can be known.
A previous-token head looks one back; a duplicate-token head at the first copy of its token; an
induction head at the token after that copy, which is the one that comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.control import QUIET, Control
from tokenscope.errors import AbilityError, InputError
from tokenscope.explain.gradients import F32
from tokenscope.explain.intervals import F64, intervals
from tokenscope.explain.lens_grid import next_logprobs

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("repeat_induction", "repeat_previous", "repeat_duplicate")
LENGTH, DRAWS = 50, 8


@dataclass(frozen=True, eq=False)
class Repeats:
    """``scores[name]`` float32 (D, L, H): mean mass on the key of the pattern, per draw.

    Rows of L are ``layers``, those with attention. ``gain`` (D,): nats per token by which the
    second copy is easier than the first; where it is near 0 the model does not use the repetition.
    """

    layers: tuple[int, ...]
    scores: Mapping[str, F32]
    gain: F32
    length: int
    seed: int

    def mean(self, name: str) -> F32:
        """(L, H): mean over the draws."""
        made: F32 = self.scores[name].mean(0)
        return made

    def interval(self, name: str) -> tuple[F64, F64, F64]:
        """(mean, low, high), each (L, H): 95 % bootstrap over the draws."""
        drawn = self.scores[name].astype(np.float64)
        shape = drawn.shape[1:]
        mean, low, high = intervals(drawn.reshape(len(drawn), -1))
        return mean.reshape(shape), low.reshape(shape), high.reshape(shape)

    def to_pandas(self) -> pd.DataFrame:
        """One row per head and pattern: score, layer, head, mean, low, high, draws."""
        import pandas as pd

        rows = []
        for name, drawn in self.scores.items():
            mean, low, high = self.interval(name)
            rows += [
                {"score": name, "layer": self.layers[i], "head": int(h), "mean": float(mean[i, h]),
                 "low": float(low[i, h]), "high": float(high[i, h]), "draws": len(drawn)}
                for i, h in np.argwhere(np.isfinite(mean))
            ]  # fmt: skip
        return pd.DataFrame(rows)


def repeats(
    internals: Internals, pool: Sequence[int] | NDArray[np.int64], start: Sequence[int] = (),
    length: int = LENGTH, draws: int = DRAWS, seed: int = 0, control: Control = QUIET,
) -> Repeats:  # fmt: skip
    """Scores of every head over ``draws`` sequences ``start r r``, r of ``length`` distinct ids.

    ``pool``: the ids to draw from (ordinary tokens). ``start``: the ids that the model expects
    before any text. Raises InputError, AbilityError.
    """
    layers = internals.anatomy.attention_layers
    if not layers:
        raise AbilityError("this model has no attention layers")
    if not 2 <= length <= len(pool):
        raise InputError("length", f"must lie in 2..{len(pool)}, the tokens to draw from")
    if not 1 <= draws <= 100:
        raise InputError("draws", "must lie in 1..100")
    shape = (draws, len(layers), internals.anatomy.heads)
    scores = {name: np.full(shape, np.nan, dtype=np.float32) for name in SCORES}
    gains = np.zeros(draws, dtype=np.float32)
    for d in range(draws):
        control.step(d, draws, "repeated random tokens")
        random = np.random.default_rng((seed, d))
        r = random.choice(np.asarray(pool, dtype=np.int64), length, replace=False).tolist()
        ids = [*start, *r, *r]
        for name, mass in _masses(internals, ids, len(start), length).items():
            scores[name][d] = mass
        gains[d] = _gain(internals, ids, len(start), length)
    control.step(draws, draws, "repeated random tokens")
    return Repeats(layers, scores, gains, length, seed)


def _masses(internals: Internals, ids: list[int], begin: int, length: int) -> dict[str, F32]:
    """Mean mass per pattern, (L, H): over the queries of the second copy."""
    layers = internals.anatomy.attention_layers
    first, n = begin + length, begin + 2 * length
    back = {"repeat_induction": length - 1, "repeat_previous": 1, "repeat_duplicate": length}
    sums = {s: torch.zeros(len(layers), internals.anatomy.heads) for s in SCORES}
    index = {layer: i for i, layer in enumerate(layers)}

    def watch(layer: int, row: int, weights: Tensor, _values: Tensor) -> None:
        block = weights[0].float().cpu()  # (H, rows, T)
        at = torch.arange(block.shape[1])
        for name, distance in back.items():
            mass = block[:, at, row + at - distance].sum(1)
            sums[name][index[layer], : len(mass)] += mass

    internals.watch(ids, watch, (first, n))
    return {name: (total / length).numpy() for name, total in sums.items()}


def _gain(internals: Internals, ids: list[int], begin: int, length: int) -> float:
    """Mean logprob of the second copy's tokens minus that of the first's, but for their heads."""
    logp = next_logprobs(internals, ids)
    one = logp[begin + 1 : begin + length]
    two = logp[begin + length + 1 :]
    return float(two.mean() - one.mean())
