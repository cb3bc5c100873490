"""One clear sentence, backed by an intervention: the named span was taken out and f measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenscope.explain.places import Span

# below this share no single span is called the reason
MAIN = 0.25


@dataclass(frozen=True, slots=True)
class Reason:
    """A span with what attribution gives it and what taking it out does, both in nats.

    ``drop`` is f(x) - f(x without the span) (definition ``region_occlusion``).
    """

    span: Span
    attribution: float
    drop: float


def best(reasons: list[Reason]) -> Reason | None:
    """The span whose loss costs most; a part of it that explains 85 % of that is preferred."""
    ranked = sorted(reasons, key=lambda r: -r.drop)
    if not ranked or ranked[0].drop <= 0:
        return None
    top = ranked[0]
    for reason in ranked[1:]:
        inside = top.span.start <= reason.span.start and reason.span.end <= top.span.end
        if inside and reason.drop >= 0.85 * top.drop:
            top = reason
    return top


def sentence(a: str, b: str | None, value: float, reasons: list[Reason], chosen: bool) -> str:
    """The sentence. ``a`` and ``b`` as shown; ``value`` is f(x); ``chosen``: A stands in the text.

    Shares are shares of f(x) and only given where f(x) > 0; without B probabilities are given.
    """
    top = best(reasons)
    where = f"`{top.span.text}` on line {top.span.line}" if top else ""
    if b is None:
        return _alone(a, value, top, where)
    verb = "chose" if chosen else "would choose"
    if value <= 0:
        head = f"the model prefers `{b}` to `{a}` by {-value:.2f} nats"
        return f"{head}; what speaks most for `{a}` is {where}" if top else head
    head = f"{verb} `{a}` over `{b}`"
    if top is None:
        return f"{head} for no single reason: nothing tried made it less likely"
    share = top.drop / value
    if share >= 1:
        return f"{head} mainly because of {where}: without it `{b}` would win"
    if share >= MAIN:
        return f"{head} mainly because of {where}: {100 * share:.0f} % of the gap"
    return f"{head} for no single reason: the strongest, {where}, is {100 * share:.0f} % of the gap"


def _alone(a: str, value: float, top: Reason | None, where: str) -> str:
    now = math.exp(value)
    head = f"gave `{a}` {_percent(now)}"
    if top is None:
        return f"{head} for no single reason: nothing tried made it less likely"
    then = math.exp(value - top.drop)
    if now - then >= MAIN * now:
        return f"{head} mainly because of {where}: {_percent(then)} without it"
    return f"{head} for no single reason: without the strongest, {where}, still {_percent(then)}"


def _percent(p: float) -> str:
    return f"{100 * p:.0f} %" if p >= 0.01 else f"{100 * p:.2g} %"
