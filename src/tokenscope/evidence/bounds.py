"""Figures with intervals. A share gets Wilson's, a quantile one of order statistics, a count none.

Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
Order statistics: David and Nagaraja, "Order Statistics" (2003), 7.1: the rank of the q-quantile of
n independent values is binomial (n, q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite, lgamma, log, log1p, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.explore.intervals import Z
from tokenscope.explore.intervals import wilson as interval


@dataclass(frozen=True, slots=True)
class Bound:
    """``value`` in [``lower``, ``upper``] (95 % unless ``method`` says exact), from ``n`` units."""

    value: float
    lower: float
    upper: float
    n: int
    method: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        return {k: v if not isinstance(v, float) or isfinite(v) else None
                for k, v in asdict(self).items()}  # fmt: skip

    def __str__(self) -> str:
        if self.method.startswith("exact"):
            return f"{self.value:.4g} ({self.method}, n = {self.n})"
        return f"{self.value:.4g} [{self.lower:.4g}, {self.upper:.4g}] (n = {self.n})"


def wilson(hits: int, n: int, z: float = Z) -> Bound:
    """The share ``hits / n`` with Wilson's score interval; [0, 1] where nothing was tried."""
    if n == 0:
        return Bound(float("nan"), 0.0, 1.0, 0, "Wilson 95 %")
    return Bound(hits / n, *interval(hits, n, z), n, "Wilson 95 %")


def exact(value: float, n: int, what: str = "exact") -> Bound:
    """A figure that is no estimate: a count, or a maximum over what was looked at."""
    return Bound(float(value), float(value), float(value), n, what)


def quantile(values: Sequence[float] | NDArray[np.float64], q: float) -> Bound:
    """The ``q``-quantile with a distribution-free 95 % interval between two order statistics.

    An end that no order statistic can give is infinite: 100 values say nothing about an upper
    end of the 99 % quantile.
    """
    known = np.sort(np.asarray(values, dtype=np.float64))
    known = known[np.isfinite(known)]
    n = len(known)
    name = "order statistics 95 %"
    if n == 0:
        return Bound(float("nan"), -np.inf, np.inf, 0, name)
    low, high = _ranks(n, q)
    lower = float(known[low - 1]) if low >= 1 else -np.inf
    upper = float(known[high - 1]) if high <= n else np.inf
    return Bound(float(np.quantile(known, q)), lower, upper, n, name)


@lru_cache(256)
def _ranks(n: int, q: float) -> tuple[int, int]:
    """Ranks (from 1) between which the quantile lies with at least 95 %; 0 and n + 1: none."""
    if n > 2000:  # normal approximation; the ranks differ by less than one from the exact ones
        half = Z * sqrt(n * q * (1 - q))
        return int(np.floor(n * q - half)), int(np.ceil(n * q + half)) + 1
    if not 0.0 < q < 1.0:
        return (0, 1) if q <= 0.0 else (n, n + 1)
    # by logarithms: the coefficients leave the range of a float from n = 1030 on
    logs = [
        lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(q) + (n - k) * log1p(-q)
        for k in range(n + 1)
    ]
    below = np.cumsum(np.exp(logs))
    low = int(np.searchsorted(below, 0.025, side="right"))
    high = int(np.searchsorted(below, 0.975, side="left")) + 1
    return low, high
