"""Intervals: of shares that were drawn, and of entropies where some mass is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


def wilson(count: int, n: int, z: float = Z) -> tuple[float, float]:
    """The score interval of a share of ``n`` draws (Wilson 1927), 0..1."""
    if n <= 0:
        return 0.0, 1.0
    p, zz = count / n, z * z
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    # at the ends the formula gives exactly 0 and 1, but for the last bits
    low = 0.0 if count == 0 else max(0.0, middle - half)
    return low, 1.0 if count == n else min(1.0, middle + half)


def entropy(masses: Sequence[float]) -> float:
    """-sum p ln p in nats, of a distribution or of a part of one (it is not normalised)."""
    return math.fsum(-p * math.log(p) for p in masses if p > 0.0)


def entropy_bounds(known: Sequence[float], free: float) -> tuple[float, float]:
    """The least and the largest entropy (nats) that a distribution over these classes can have.

    ``known``: mass that each class has for sure; ``free``: mass that may lie in any of them, or in
    several. Least: all of it in the largest class (-p ln p is concave: what is added to more adds
    less). Largest: it fills the smallest classes up to one level.
    """
    held = sorted(max(0.0, p) for p in known)
    if not held:
        return 0.0, 0.0
    free = max(0.0, free)
    least = entropy([*held[:-1], held[-1] + free])
    filled, left = list(held), free
    for n in range(1, len(held) + 1):
        level = (math.fsum(held[:n]) + left) / n
        if n == len(held) or level <= held[n]:
            filled[:n] = [level] * n
            break
    return least, max(least, entropy(filled))


def bootstrap_entropy(
    counts: Sequence[int], draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """The bootstrap interval of the entropy (nats) of shares that were counted (Efron 1979),
    each resample with the correction of Miller and Madow (1955): + (classes - 1) / (2 n)."""
    n = int(sum(counts))
    if n == 0:
        return 0.0, 0.0
    random = np.random.default_rng(seed)
    shares = random.multinomial(n, np.asarray(counts, dtype=np.float64) / n, size=draws) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        values: F64 = -np.nansum(np.where(shares > 0, shares * np.log(shares), 0.0), axis=1)
    values = values + ((shares > 0).sum(axis=1) - 1) / (2 * n)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
