"""One clear sentence, backed by an intervention: the named span was taken out and f measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenscope.explain.places import Span

# below this share no single span is called the reason
MAIN = 0.25
# from this share of f(x) on, the text is not what decided
PRIOR = 0.75


@dataclass(frozen=True, slots=True)
class Reason:
    """A span with what attribution gives it and what taking it out does, both in nats.

    ``drop`` is f(x) - f(x without the span) (definition ``region_occlusion``).
    """

    span: Span
    attribution: float
    drop: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands beside the sentence, so that a reader can weigh it.

    ``prior``: f in nats with every token replaced. ``tried``: spans taken out. ``size``: tokens
    of the named span; ``rank`` of its drop among ``of`` spans of that length elsewhere in the
    text (1: none costs more); ``recency``: the drop of the last ``size`` tokens (None: the span
    lies there). All but ``prior`` and ``tried`` are None without a named span.
    """

    prior: float
    tried: int
    size: int | None = None
    rank: int | None = None
    of: int | None = None
    recency: float | None = None


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


def sentence(
    a: str, b: str | None, value: float, reasons: list[Reason], chosen: bool, seen: Evidence
) -> str:
    """The sentence. ``a`` and ``b`` as shown; ``value`` is f(x); ``chosen``: A stands in the text.

    Shares are shares of what the text adds, f(x) - f without it; without B probabilities are given.
    """
    top = best(reasons)
    where = f"`{top.span.text}` on line {top.span.line}" if top else ""
    if b is None:
        return _alone(a, value, top, where, seen)
    verb = "chose" if chosen else "would choose"
    if value <= 0:
        head = f"the model prefers `{b}` to `{a}` by {-value:.2f} nats"
        return f"{head}; what speaks most for `{a}` is {where}" if top else head
    head = f"{verb} `{a}` over `{b}`"
    if top is not None and top.drop >= value:
        return f"{head} mainly because of {where}: without it `{b}` would win"
    if seen.prior >= PRIOR * value:
        return (
            f"{head} mostly by habit: with none of this text the gap is {seen.prior:.1f} nats, "
            f"with it {value:.1f}"
        )
    if top is None:
        return f"{head} for no single reason: none of {seen.tried} spans tried made it less likely"
    share = 100 * top.drop / (value - seen.prior)
    if share >= 100 * MAIN:
        return f"{head} mainly because of {where}: {share:.0f} % of what the text adds"
    return (
        f"{head} for no single reason: of {seen.tried} spans tried the strongest, {where}, is "
        f"{share:.0f} % of what the text adds"
    )


def _alone(a: str, value: float, top: Reason | None, where: str, seen: Evidence) -> str:
    now, never = math.exp(value), math.exp(seen.prior)
    head = f"gave `{a}` {_percent(now)}"
    if top is not None:
        then = math.exp(value - top.drop)
        if now - then >= MAIN * now:
            return f"{head} mainly because of {where}: {_percent(then)} without it"
    if never >= PRIOR * now:
        return f"{head} mostly by habit: {_percent(never)} with none of this text"
    if top is None:
        return f"{head} for no single reason: none of {seen.tried} spans tried made it less likely"
    return (
        f"{head} for no single reason: of {seen.tried} spans tried the strongest, {where}, leaves "
        f"it {_percent(then)}"
    )


def beside(seen: Evidence, value: float) -> str:
    """The evidence in words: rank, recency control, f without the text."""
    out = f"With none of the text f is {seen.prior:.2f} nats, with it {value:.2f}."
    if seen.rank is None:
        return out
    tokens = f"{seen.size} token{'s' if seen.size != 1 else ''}"
    if seen.of:
        out += f" Rank {seen.rank} of {seen.of + 1} spans of {tokens} by what their loss costs."
    if seen.recency is None:
        return f"{out} The span stands right before the token, so recency alone may explain it."
    return f"{out} Control: losing the last {tokens} costs {seen.recency:.2f} nats."


def _percent(p: float) -> str:
    return f"{100 * p:.0f} %" if p >= 0.01 else f"{100 * p:.2g} %"
