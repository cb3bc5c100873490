"""Means with intervals, so that no figure rests on one prompt, one draw or one head.

Percentile bootstrap (Efron 1979): draw n of n with replacement, take the mean, and read the
2.5 % and 97.5 % points of 2,000 such means. Rows are drawn whole, so figures of the same prompt
stay together and a difference of two columns is a paired one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` with a 95 % interval; ``low`` and ``high`` NaN where n < 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def beyond_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}], n = {self.n}"


def interval(values: F64 | NDArray[np.float32] | list[float], seed: int = 0) -> Interval:
    """Mean of (n,) with its interval; what is not finite is left out and not counted."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, 0)
    mean, low, high = intervals(known[:, None], seed)
    return Interval(float(mean[0]), float(low[0]), float(high[0]), len(known))


def intervals(values: F64, seed: int = 0, rounds: int = ROUNDS) -> tuple[F64, F64, F64]:
    """(mean, low, high), each (M,), of columns (n, M) of finite numbers."""
    n = len(values)
    mean = values.mean(0)
    if n < 2:
        nothing = np.full_like(mean, np.nan)
        return mean, nothing, nothing
    made = weights(n, seed, rounds) @ values
    low, high = np.percentile(made, (2.5, 97.5), axis=0)
    return mean, low, high


def ratios(above: F64, below: F64, seed: int = 0, rounds: int = ROUNDS) -> tuple[F64, F64, F64]:
    """(value, low, high), each (M,): mean of ``above`` (n, M) over the mean of ``below`` (n,).

    Rows are drawn together. The mean of ratios would be ruled by the draws that barely differ.
    """
    whole = above.mean(0) / below.mean()
    if len(above) < 2:
        nothing = np.full_like(whole, np.nan)
        return whole, nothing, nothing
    drawn = weights(len(above), seed, rounds)
    low, high = np.percentile((drawn @ above) / (drawn @ below)[:, None], (2.5, 97.5), axis=0)
    return whole, low, high


def weights(n: int, seed: int, rounds: int) -> F64:
    """(rounds, n): how often each row was drawn, over n; the same for the same seed."""
    random = np.random.default_rng(seed)
    return random.multinomial(n, np.full(n, 1.0 / n), size=rounds) / n
