"""Risk mass: how likely the continuations with a finding are, where that was decided, and what
being without it costs.

The event is read off texts: a path of tokens from a start on, to the end of its line, its horizon
or its own end, *carries* the finding or is *free* of it. Of every path that was enumerated the
exact probability is known (the model's own: temperature 1, nothing cut off), so with S the set of
paths that carry it and F of those that are free

    lower = sum of P over S        upper = 1 - sum of P over F

and upper - lower is the mass that was not enumerated: it may be either. Nothing is normalised.

Along the path that was written the same bounds, given its first t tokens, say where it was decided:
at tokens after which the risk is surely higher than it was before. The **price** of the best free
path is ln P(best path) - ln P(best free path), in nats, over the same stretch. What it costs to
have no path with the finding at all is -ln P(free), the KL divergence of the model conditioned on
being free from the model itself; it lies between -ln(1 - lower) and -ln(1 - upper).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_DECISIONS = 3
LEAST_RISE = 0.05  # a token at which the risk rises by less has decided nothing


@dataclass(frozen=True, slots=True)
class Path:
    """``ids`` from the start on, each with its ``logp`` (nats), ``mass`` = P of exactly these.

    ``viable``: it can still become a program. A path that cannot carries nothing, and is no way out
    either: it counts as free, and is never the best free one.
    """

    ids: tuple[int, ...]
    logp: tuple[float, ...]
    mass: float
    carries: bool
    text: str
    viable: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """A probability that is known to lie in [lower, upper]."""

    lower: float
    upper: float

    def __str__(self) -> str:
        return f"[{self.lower:.3g}, {self.upper:.3g}]"


@dataclass(frozen=True, slots=True)
class Decided:
    """Token ``at`` (from the start, 0 first) took the risk from ``before`` to ``after``.

    ``banned``: what the risk would be with this token banned at this place, as far as paths were
    enumerated (None: it was sampled); ``ban_cost``: nats, -ln(1 - q) of it.
    """

    at: int
    id: int
    before: Span
    after: Span
    banned: Span | None
    ban_cost: float


@dataclass(frozen=True)
class Risk:
    """See the module. ``paths``: how many were enumerated; ``free``: the best one without the
    finding (None: none was found), ``price`` its nats; ``cost``: of having none with it.
    ``sampled``: Wilson's 95 % interval of ``draws`` continuations, where too much was left to
    enumerate."""

    risk: Span
    paths: int
    decided: tuple[Decided, ...]
    free: Path | None
    price: float | None
    cost: Span
    sampled: Span | None = None
    draws: int = 0

    @property
    def best(self) -> Span:
        """The narrower of what was enumerated and what was sampled."""
        held = [self.risk, *([self.sampled] if self.sampled else [])]
        return min(held, key=lambda s: s.upper - s.lower)

    @property
    def unexplored(self) -> float:
        """The mass that was not enumerated."""
        return self.risk.upper - self.risk.lower


def weigh(paths: Sequence[Path], written: Path) -> Risk:
    """The risk that paths from one start show; ``written`` is the one that was really taken."""
    whole = _span(paths, 1.0)
    logs = [sum(written.logp[:t]) for t in range(len(written.ids) + 1)]
    spans = [
        _span([p for p in paths if p.ids[:t] == written.ids[:t]], math.exp(logs[t]))
        for t in range(len(written.ids) + 1)
    ]
    # a rise is one when the bounds do not overlap, so that it cannot be for want of enumeration
    rises = [(spans[t + 1].lower - spans[t].upper, t) for t in range(len(written.ids))]
    most = sorted(rises, reverse=True)[:MOST_DECISIONS]
    chosen = sorted(t for rise, t in most if rise >= LEAST_RISE)
    decided = tuple(
        Decided(t, written.ids[t], spans[t], spans[t + 1], *_without(paths, written, t, logs[t]))
        for t in chosen
    )
    outs = (p for p in paths if not p.carries and p.viable)
    free = max(outs, key=lambda p: p.mass, default=None)
    best = max(p.mass for p in paths)
    price = None if free is None or free.mass <= 0 else math.log(best) - math.log(free.mass)
    return Risk(whole, len(paths), decided, free, price,
                Span(cost(whole.lower), cost(whole.upper)))  # fmt: skip


def _span(paths: Sequence[Path], of: float) -> Span:
    """The bounds of paths that all begin alike, given that beginning, whose mass is ``of``."""
    if of <= 0.0:
        return Span(0.0, 1.0)
    carrying = math.fsum(p.mass for p in paths if p.carries) / of
    free = math.fsum(p.mass for p in paths if not p.carries) / of
    lower = min(1.0, max(0.0, carrying))
    return Span(lower, max(lower, min(1.0, 1.0 - free)))


def _without(paths: Sequence[Path], written: Path, t: int, log: float) -> tuple[Span, float]:
    """The bounds with token ``t`` of the written path banned there, and the nats that costs."""
    q = math.exp(written.logp[t])
    left = 1.0 - q
    if left <= 1e-12:
        return Span(0.0, 1.0), math.inf
    others = [
        p for p in paths
        if p.ids[:t] == written.ids[:t] and (len(p.ids) <= t or p.ids[t] != written.ids[t])
    ]  # fmt: skip
    return _span(others, math.exp(log) * left), -math.log(left)


def cost(risk: float) -> float:
    """Nats: -ln(1 - risk)."""
    return math.inf if risk >= 1.0 else -math.log1p(-risk)
