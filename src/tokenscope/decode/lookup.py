"""Look-up speculation: code repeats itself, so guess that it does and let the model check.

When the last tokens stood somewhere before, what followed there is proposed (Saxena 2023, prompt
lookup; Yang 2023, LLMA). The model reads the proposal in one pass; position by position its own
token is drawn exactly as if it had been decoded singly (draws are keyed by position), and the
proposal is believed as far as it agrees. Nothing else changes but the number of passes.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2  # tokens that must repeat, at most and at least
MOST = 15  # proposed in one pass; with the token that is sure, a pass reads 16
LEAST = 2  # proposed at first: a pass of three costs little more than one of one
REST = 24  # tokens without a proposal after they did not pay
CREDIT, AGAIN = 3.0, 0.3  # single passes that proposals may lose: at most, and after a rest
GUESS = 0.1  # of a single pass, for each token more, until it is measured
KEPT = 9  # passes whose time is kept, by how many tokens they read


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
    """What passes have cost on this model: how a proposal is known to pay.

    The ms of the last passes by how many tokens they read, over all runs of an engine; what counts
    is their median, so that a pause of the machine is no cost of the pass.
    """

    __slots__ = ("_ms",)

    def __init__(self) -> None:
        self._ms: dict[int, deque[float]] = {}

    def saw(self, tokens: int, ms: float) -> None:
        """A pass over ``tokens`` tokens took ``ms``."""
        self._ms.setdefault(tokens, deque(maxlen=KEPT)).append(ms)

    @property
    def single(self) -> float:
        """The ms of a pass over one token; 0 until one was seen."""
        return statistics.median(self._ms[1]) if 1 in self._ms else 0.0

    def of(self, tokens: int) -> float:
        """How many passes of one token a pass over ``tokens`` costs.

        A guess as long as it was seen less than twice, or a pass of one was not; what was seen of
        fewer tokens, if anything, is what it goes on from.
        """
        single, base, size = self.single, 1.0, 1
        for n in range(tokens, 1, -1) if single else ():
            if len(seen := self._ms.get(n, ())) > 1:
                base, size = max(1.0, statistics.median(seen) / single), n
                break
        return base + GUESS * (tokens - size)


class Speculation:
    """The proposals of one run: how long, and whether they pay.

    A pass that reads n proposed tokens and has a of them believed gives ``1 + a`` tokens for
    ``Cost.of(1 + n)`` single passes. Proposals begin short; one that was believed whole is
    followed by one of twice the length, else the next is as long as what was believed and one
    more. What they gained less what they cost is kept account of, up to ``CREDIT`` passes: a run
    that falls below zero goes without for ``REST`` tokens, and then has little credit. So text
    that repeats nothing loses next to nothing. ``ids`` is the run's own list, which grows.
    """

    __slots__ = ("_cost", "_credit", "_grams", "_ids", "_length", "_rest", "passes", "taken")

    def __init__(self, ids: Sequence[int], cost: Cost) -> None:
        self._ids = ids
        self._grams: Ngrams | None = None  # made when first needed: not before the first token
        self._cost = cost
        self._length = LEAST
        self._credit = CREDIT / 2
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
        return self._grams.continuation(min(self._length, room))

    def saw(self, proposed: int, accepted: int) -> None:
        """What became of a proposal."""
        self.passes += 1
        self.taken += accepted
        whole = accepted == proposed
        self._length = min(MOST, 2 * proposed + 1 if whole else max(LEAST, accepted + 1))
        gained = 1.0 + accepted - self._cost.of(1 + proposed)
        self._credit = min(CREDIT, self._credit + gained)
        if self._credit < 0.0:
            self._rest, self._credit = REST, AGAIN
