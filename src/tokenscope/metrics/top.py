"""The same signals where only the top of a distribution is known: exact, a bound, or nothing.

A form gives its column and whether each value is exact. r = 1 - sum p_K is the missing mass; a
token outside the top has p <= min(p_K, r).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.protocol import Top
from tokenscope.registry import Registry

F64 = NDArray[np.float64]
Form = Callable[["TopDistribution"], tuple[F64, NDArray[np.bool_]]]
FORMS: Registry[Form] = Registry("form of a metric over the top")


def _array(values: Any) -> Any:
    return values.cpu().numpy() if hasattr(values, "cpu") else np.asarray(values)


class TopDistribution:
    """n tops of K tokens and the ids that came. Intermediate results are shared."""

    def __init__(self, top: Top, targets: NDArray[np.int64]) -> None:
        self.ids = _array(top.ids)
        self.targets = targets
        self.logp: F64 = np.where(self.ids >= 0, _array(top.logprobs).astype(np.float64), -np.inf)
        self.missing: F64 = np.clip(_array(top.missing).astype(np.float64), 0.0, 1.0)
        n = len(self.ids)
        told = np.full(n, np.nan) if top.chosen is None else _array(top.chosen)
        self.told: F64 = told.astype(np.float64)

    @cached_property
    def where(self) -> NDArray[np.bool_]:
        """(n, K): the place of the token that came, if it has one."""
        out: NDArray[np.bool_] = (self.ids == self.targets[:, None]) & (self.ids >= 0)
        return out

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """(n,): whether the token that came is told."""
        out: NDArray[np.bool_] = np.asarray(self.where.any(axis=1))
        return out

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(n,): whether the logprob of the token that came is known."""
        out: NDArray[np.bool_] = self.inside | np.isfinite(self.told)
        return out

    @cached_property
    def target_logp(self) -> F64:
        """(n,) its logprob; where nobody tells, the most that it can be: ln min(p_K, r)."""
        held = np.where(self.where, self.logp, -np.inf).max(axis=1, initial=-np.inf)
        with np.errstate(divide="ignore"):
            most = np.log(np.minimum(self.missing, self.smallest))
        told = np.where(np.isfinite(self.told), self.told, most)
        return np.where(self.inside, held, told)

    @cached_property
    def smallest(self) -> F64:
        """(n,) the smallest p that is told (1 where none is)."""
        finite = np.isfinite(self.logp)
        least = np.where(finite, self.logp, 0.0).min(axis=1, initial=0.0)
        out: F64 = np.exp(least)
        return out

    @cached_property
    def complete(self) -> NDArray[np.bool_]:
        """(n,): whether the top is the whole."""
        out: NDArray[np.bool_] = self.missing <= 0.0
        return out

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """(n,) how many tokens are told."""
        out: NDArray[np.int64] = (self.ids >= 0).sum(axis=1)
        return out


@FORMS.register("logprob")
def logprob(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """ln p(x), else an upper bound."""
    return d.target_logp, d.known


@FORMS.register("surprisal")
def surprisal(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """-ln p(x), else a lower bound."""
    return -d.target_logp, d.known


@FORMS.register("probability")
def probability(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """p(x), else an upper bound."""
    return np.exp(d.target_logp), d.known


@FORMS.register("rank")
def rank(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """The place in the top; outside it at least K + 1."""
    place = np.where(d.inside, d.where.argmax(axis=1) if d.where.shape[1] else 0, d.count)
    return 1.0 + place, d.inside


@FORMS.register("entropy")
def entropy(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """-sum_K p ln p - r ln r: the missing mass as one token, which is a lower bound."""
    with np.errstate(divide="ignore", invalid="ignore"):
        told: F64 = np.nan_to_num(np.exp(d.logp) * d.logp, nan=0.0).sum(axis=1)
        rest = np.nan_to_num(d.missing * np.log(d.missing), nan=0.0)
    return -(told + rest), d.complete


@FORMS.register("margin")
def margin(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """p(1) - p(2); of one token alone, the least that it can be: p(1) - min(p(1), r)."""
    p = np.exp(d.logp)
    first = p[:, 0] if p.shape[1] else np.zeros(len(p))
    two = d.count > 1
    second = np.where(two, p[:, 1] if p.shape[1] > 1 else 0.0, np.minimum(first, d.missing))
    return first - second, two


@FORMS.register("p_ratio")
def p_ratio(d: TopDistribution) -> tuple[F64, NDArray[np.bool_]]:
    """p(x) / p(1), else an upper bound."""
    first = d.logp[:, 0] if d.logp.shape[1] else np.zeros(len(d.logp))
    ratio = np.exp(d.target_logp - np.where(d.count > 0, first, d.target_logp))
    return ratio, d.known & (d.count > 0)
