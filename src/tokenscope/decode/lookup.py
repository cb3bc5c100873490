"""Look-up speculation: code repeats itself, so guess that it does and let the model check.

When the last tokens stood somewhere before, what followed there is proposed (Saxena 2023, prompt
lookup; Yang 2023, LLMA). The model reads the proposal in one pass; position by position its own
token is drawn exactly as if it had been decoded singly (draws are keyed by position), and the
proposal is believed as far as it agrees. Nothing else changes but the number of passes.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2  # tokens that must repeat, at most and at least
MOST = 7  # proposed in one pass; with the token that is sure, a pass reads 8
REST = 24  # tokens without a proposal after they did not pay


class Ngrams:
    """Where each run of 2 to 4 tokens last ended. Grows with the sequence, O(1) a token."""

    __slots__ = ("_at", "_ids")

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._ids: list[int] = []
        self._at: dict[tuple[int, ...], int] = {}
        for i in ids:
            self.add(i)

    def add(self, token: int) -> None:
        """One token more. An n-gram counts as earlier only once something follows it."""
        n = len(self._ids)
        for size in range(SHORTEST, min(LONGEST, n) + 1):
            self._at[tuple(self._ids[n - size :])] = n
        self._ids.append(token)

    def continuation(self, most: int) -> list[int]:
        """What followed the longest n-gram that ends the sequence, where it last stood; or []."""
        n = len(self._ids)
        for size in range(min(LONGEST, n), SHORTEST - 1, -1):
            at = self._at.get(tuple(self._ids[n - size :]))
            if at is not None:
                found = self._ids[at : at + most]
                while len(found) < most:  # the match runs into the end: it repeats from there
                    found = found + self._ids[at:][: most - len(found)]
                return found
        return []


class Cost:
    """What passes have cost on this model, in ms: how a proposal is known to pay.

    Running means over all runs of an engine: ``single`` for one token, ``several`` for more.
    """

    __slots__ = ("several", "single")

    def __init__(self) -> None:
        self.single = self.several = 0.0

    def saw(self, tokens: int, ms: float) -> None:
        """A pass over ``tokens`` tokens took ``ms``."""
        name = "single" if tokens == 1 else "several"
        held = getattr(self, name)
        # a pause of the machine is no cost of the pass: it counts at most three times the mean
        setattr(self, name, ms if held == 0.0 else held + 0.1 * (min(ms, 3 * held) - held))

    @property
    def ratio(self) -> float:
        """How many single passes one of several tokens costs; 1.5 until both are known."""
        return self.several / self.single if self.single and self.several else 1.5


class Speculation:
    """The proposals of one run, and whether they pay.

    A pass of several tokens gives ``1 + accepted`` tokens for ``Cost.ratio`` single passes. Where
    the running mean of what was accepted falls below that, proposals stop for ``REST`` tokens and
    are then tried again, at first only once. ``ids`` is the run's own list, which grows.
    """

    __slots__ = ("_accepted", "_cost", "_grams", "_ids", "_rest", "passes", "taken")

    def __init__(self, ids: Sequence[int], cost: Cost) -> None:
        self._ids = ids
        self._grams: Ngrams | None = None  # made when first needed: not before the first token
        self._cost = cost
        self._accepted = 2.0  # the mean on code, until the run has shown its own
        self._rest = 0
        self.passes = self.taken = 0

    def add(self, token: int) -> None:
        """A token was decoded."""
        if self._grams is not None:
            self._grams.add(token)
        self._rest = max(0, self._rest - 1)

    def propose(self, room: int) -> list[int]:
        """At most ``room`` tokens that may come next; [] where nothing repeats or it won't pay."""
        if self._rest or room < 1:
            return []
        if self._grams is None:
            self._grams = Ngrams(self._ids)
        return self._grams.continuation(min(MOST, room))

    def saw(self, proposed: int, accepted: int) -> None:
        """What became of a proposal."""
        self.passes += 1
        self.taken += accepted
        self._accepted += 0.25 * (accepted - self._accepted)
        if 1.0 + self._accepted < 1.1 * self._cost.ratio:
            self._rest = REST
            self._accepted = max(self._accepted, 1.1 * self._cost.ratio - 1.0)  # one more try
