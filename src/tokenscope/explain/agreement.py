"""Rank agreement of two columns: Spearman's rho, Kendall's tau-b. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def ranks(values: NDArray[np.floating]) -> F64:
    """float64 (n,): ranks from 1, ties share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: F64 = (ends - (counts - 1) / 2.0)[inverse]
    return mean


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson's correlation of the ranks (Spearman 1904); NaN when one side is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale else float("nan")


def kendall(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Tau-b (Kendall 1945), O(n^2) time and O(n) memory; NaN when one side is constant."""
    n = len(a)
    score = left = right = 0
    for i in range(n - 1):
        x, y = np.sign(a[i + 1 :] - a[i]), np.sign(b[i + 1 :] - b[i])
        score += int((x * y).sum())
        left += int(np.count_nonzero(x))
        right += int(np.count_nonzero(y))
    scale = float(np.sqrt(float(left) * float(right)))
    return score / scale if scale else float("nan")
