"""What an exploration is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from tokenscope.errors import InputError

Way = Literal["enumerated", "sampled", "greedy"]
WAYS: tuple[Way, ...] = ("enumerated", "sampled", "greedy")
MOST = 500  # branches, unless asked otherwise
MOST_WIDTH = 256


@dataclass(frozen=True, slots=True)
class Ask:
    """How far to explore from token ``at`` on.

    ``way``: ``enumerated`` (alternatives of alternatives, exact masses), ``sampled`` (``draws``
    continuations), ``greedy`` (one greedy branch per alternative of what was written). ``width``:
    alternatives of one decision, likeliest first, as many as hold ``cover`` of it. ``depth``:
    decisions on one path (None: no limit). ``gate``: the least entropy (nats) of a position at
    which a decision is made. ``region``: token indices [start, end) in which decisions may lie
    (None: all up to the horizon). ``horizon``: tokens from ``at`` on that every branch is read
    for: its outcome is that of those. ``stop``: a branch ends at the first of these texts.
    ``budget_tokens``: tokens that may be decoded. ``most``: branches. ``least``: an alternative
    with less mass than this is not followed.
    """

    way: Way = "enumerated"
    width: int = 4
    depth: int | None = 2
    cover: float = 1.0
    gate: float = 0.0
    region: tuple[int, int] | None = None
    horizon: int = 12
    stop: tuple[str, ...] = ()
    budget_tokens: int | None = None
    most: int = MOST
    least: float = 0.0
    draws: int = 100

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise InputError("way", f"must be one of {', '.join(WAYS)}")
        object.__setattr__(self, "stop", tuple(self.stop))
        whole("width", self.width, 1, MOST_WIDTH)
        if self.depth is not None:
            whole("depth", self.depth, 0, 10_000)
        whole("horizon", self.horizon, 1, 100_000)
        whole("most", self.most, 1, 100_000)
        whole("draws", self.draws, 1, 100_000)
        if self.budget_tokens is not None:
            whole("budget_tokens", self.budget_tokens, 1, 1 << 31)
        number("cover", self.cover, 0.0, 1.0)
        number("gate", self.gate, 0.0, 100.0)
        number("least", self.least, 0.0, 1.0)
        if any(not isinstance(s, str) or not s for s in self.stop):
            raise InputError("stop", "must hold non-empty strings")
        if self.region is not None:
            start, end = self.region
            object.__setattr__(self, "region", (whole("region", start, 0), whole("region", end, 0)))
            if start >= end:
                raise InputError("region", "must be [start, end) with start < end")

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["region"] = None if self.region is None else list(self.region)
        return {**plain, "stop": list(self.stop)}


def whole(name: str, value: object, low: int, high: int = 1 << 31) -> int:
    """Raises InputError unless ``value`` is a whole number in low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(name, f"must be a whole number in {low}..{high}")
    return value


def number(name: str, value: object, low: float, high: float) -> None:
    """Raises InputError unless ``value`` is a finite number in low..high."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (plain and math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type, operator]
        raise InputError(name, f"must be a number in {low:g}..{high:g}")
