"""How far two distributions of the next token lie apart: exact, or bounds from their tops.

Total variation is half the sum of |p - q|; KL is the sum of p ln(p / q), nats (Kullback 1951), of
the first against the second. Where only the K likeliest of each are known, lumping all others into
one class can only lower both (data processing; Cover & Thomas 2006, 2.8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Apart:
    """``kl`` (a lower bound unless ``exact``; None where it is not known) and ``low..high`` of the
    total variation. ``over``: ``tokens``, or ``bytes`` (of the next byte: two vocabularies)."""

    kl: float | None
    low: float
    high: float
    exact: bool
    over: Literal["tokens", "bytes"]


def exact(p: F64, q: F64) -> Apart:
    """Of two whole distributions, given as logprobs float64 (V,)."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > -np.inf, np.exp(p) * (p - q), 0.0)
    tv = 0.5 * float(np.abs(np.exp(p) - np.exp(q)).sum())
    return Apart(max(0.0, float(terms.sum())), tv, tv, True, "tokens")


def of_tops(p: Mapping[int, float], q: Mapping[int, float]) -> Apart:
    """Of the likeliest tokens of each: id -> logprob."""
    both = p.keys() & q.keys()
    one = {i: math.exp(p[i]) for i in both}
    two = {i: math.exp(q[i]) for i in both}
    left = max(0.0, 1.0 - math.fsum(one.values())), max(0.0, 1.0 - math.fsum(two.values()))
    kl = math.fsum(one[i] * (p[i] - q[i]) for i in both)
    if left[0] > 0.0:
        kl = math.inf if left[1] == 0.0 else kl + left[0] * math.log(left[0] / left[1])
    shared = math.fsum(abs(one[i] - two[i]) for i in both)
    low = 0.5 * (shared + abs(left[0] - left[1]))
    high = min(1.0, 0.5 * (shared + left[0] + left[1]))
    return Apart(max(0.0, kl), low, max(low, high), False, "tokens")


def of_bytes(p: Mapping[int, float], q: Mapping[int, float]) -> Apart:
    """Of the next byte: byte (-1: an end or a mark) -> the least mass that it has for sure."""
    left = max(0.0, 1.0 - math.fsum(p.values())), max(0.0, 1.0 - math.fsum(q.values()))
    shared = math.fsum(abs(p.get(i, 0.0) - q.get(i, 0.0)) for i in p.keys() | q.keys())
    low = max(0.0, 0.5 * (shared - left[0] - left[1]))
    high = min(1.0, 0.5 * (shared + left[0] + left[1]))
    return Apart(None, low, max(low, high), left == (0.0, 0.0), "bytes")
