"""The tree as it grows: which mass lies where, and what to decode next.

A *branch* is a path of tokens from ``at`` on. Its **mass** is the probability that exactly its
tokens up to and including its last *decision* are written: the product of their probabilities,
float64, never normalised. What stands behind the last decision is one continuation of many (the
greedy one, or what was written); it carries the mass of the enumerated prefix.

A decision at position t of a branch turns its event "the path up to t - 1" into disjoint ones:
"... and then v" for each alternative v that is taken. The branch itself goes on as one of them.
So the branches are disjoint events at any time, and

    sum of branch masses + other tokens + skipped + waiting = 1

*other tokens*: alternatives that no decision took. *skipped*: leaving a path at a position where
no decision was made (below the gate, outside the region) before a later decision. *waiting*:
alternatives that were taken and are not decoded. The three together are the unexplored mass; each
is summed up where it arises, so that the sum is a check and not a definition.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tokenscope.explore.asked import Ask

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Read:
    """What the model said along a branch's own tokens (n of them).

    ``logp`` float64 (n,): ln q of each; ``ids`` int32 (n, K) and ``choices`` float64 (n, K): the K
    likeliest, in order (-1 and -inf where there are none); ``entropy`` float64 (n,).
    """

    logp: F64
    ids: NDArray[np.int32]
    choices: F64
    entropy: F64


@dataclass(slots=True, eq=False)
class Branch:
    """A path. ``at``: its first own token; before it the path is that of ``parent`` (0: the root).

    ``decided``: the tokens before this index are enumerated. ``decisions``: how many are on its
    path. ``finish``: eos, stop or length (the horizon). ``draws``: how often it was drawn, where
    it was.
    """

    name: int
    parent: int | None
    at: int
    own: tuple[int, ...]
    read: Read
    finish: str
    mass: float
    decided: int
    decisions: int
    text_mass: float = math.nan
    draws: int = 0

    @property
    def end(self) -> int:
        """Index after its last token."""
        return self.at + len(self.own)

    @property
    def complete(self) -> bool:
        """Whether every token of it is enumerated: then its mass is that of its text."""
        return self.decided >= self.end


@dataclass(frozen=True, slots=True)
class Taken:
    """An alternative of a decision. ``mass``: of the event; ``logp``: ln q at the decision."""

    id: int
    logp: float
    mass: float


@dataclass(slots=True, eq=False)
class Decision:
    """At token ``at`` of ``branch``: ``mass`` came that far, ``taken`` first the branch's own token
    (when ``own``), ``rest`` is what no alternative took."""

    branch: int
    at: int
    mass: float
    entropy: float
    taken: list[Taken]
    rest: float


@dataclass(frozen=True, slots=True)
class Pending:
    """An alternative that waits to be decoded."""

    mass: float
    parent: int
    at: int
    id: int
    logp: float
    decisions: int


@dataclass(slots=True)
class Unexplored:
    """The mass that no branch holds, by where it went (see above)."""

    other_tokens: float = 0.0
    skipped: float = 0.0
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.other_tokens + self.skipped + self.waiting


@dataclass(eq=False)
class Frontier:
    """Branches, decisions, and what waits, most mass first."""

    ask: Ask
    at: int
    branches: list[Branch] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    lost: Unexplored = field(default_factory=Unexplored)

    def __post_init__(self) -> None:
        self._heap: list[tuple[float, int, Pending | int]] = []
        self._order = itertools.count()

    # --- what comes in ---------------------------------------------------------------------------
    def root(self, own: tuple[int, ...], read: Read, finish: str) -> Branch:
        """The first branch: all mass, nothing decided."""
        return self._add(Branch(0, None, self.at, own, read, finish, 1.0, self.at, 0))

    def decoded(self, what: Pending, own: tuple[int, ...], read: Read, finish: str) -> Branch:
        """A pending alternative became a branch; ``own`` begins with its token."""
        self.lost.waiting -= what.mass
        name = len(self.branches)
        return self._add(
            Branch(
                name, what.parent, what.at, own, read, finish, what.mass, what.at + 1,
                what.decisions,
            )
        )  # fmt: skip

    def drawn(
        self, parent: int | None, at: int, own: tuple[int, ...], read: Read, finish: str,
        text_mass: float,
    ) -> Branch:  # fmt: skip
        """A path that was drawn; nothing is decided on it. Its mass is set as draws are counted."""
        end = at + len(own)
        name = len(self.branches)
        branch = Branch(name, parent, at, own, read, finish, 0.0, end, 0, text_mass)
        self.branches.append(branch)
        return branch

    def _add(self, branch: Branch) -> Branch:
        self.branches.append(branch)
        branch.text_mass = branch.mass * self._along(branch, branch.decided, branch.end)
        self._offer(branch)
        return branch

    # --- what to do next -------------------------------------------------------------------------
    def next(self) -> Pending | None:
        """The alternative with the most mass that is not decoded; decisions that have to be made
        for that are made. None: there is nothing left."""
        while self._heap:
            _, _, item = heapq.heappop(self._heap)
            if isinstance(item, Pending):
                return item
            self._decide(self.branches[item])
        return None

    def back(self, what: Pending) -> None:
        """It was not decoded after all: it waits on."""
        self._push(what.mass, what)

    def waiting(self) -> Iterator[Pending]:
        """Alternatives that are not decoded, in no order."""
        return (item for _, _, item in self._heap if isinstance(item, Pending))

    @property
    def more(self) -> bool:
        """Whether there are decisions to make, or alternatives to decode."""
        return bool(self._heap)

    def again(self, ask: Ask) -> Frontier:
        """A copy that goes on by ``ask``: it may ask for more depth or branches than before."""
        other = Frontier(ask, self.at)
        other.branches = [replace(b) for b in self.branches]
        other.decisions = list(self.decisions)
        other.lost = replace(self.lost)
        for pending in sorted(self.waiting(), key=lambda p: (-p.mass, p.parent, p.at, p.id)):
            other._push(pending.mass, pending)
        for branch in other.branches:
            other._offer(branch)
        return other

    def _push(self, mass: float, item: Pending | int) -> None:
        heapq.heappush(self._heap, (-mass, next(self._order), item))

    def _offer(self, branch: Branch) -> None:
        if self._place(branch) is not None:
            self._push(branch.mass, branch.name)

    def _place(self, branch: Branch) -> int | None:
        """The next position of a branch at which a decision may be made."""
        ask = self.ask
        if ask.depth is not None and branch.decisions >= ask.depth:
            return None
        if ask.way == "sampled" or (ask.way == "greedy" and branch.name):
            return None
        low, high = ask.region if ask.region is not None else (0, 1 << 62)
        for t in range(max(branch.decided, low), min(branch.end, self.at + ask.horizon, high)):
            entropy = float(branch.read.entropy[t - branch.at])
            if not entropy < ask.gate:
                return t
        return None

    def _along(self, branch: Branch, start: int, end: int) -> float:
        """The probability of its tokens ``start..end-1`` after those before."""
        return math.exp(math.fsum(branch.read.logp[start - branch.at : end - branch.at].tolist()))

    def _decide(self, branch: Branch) -> None:
        t = self._place(branch)
        assert t is not None
        came = branch.mass * self._along(branch, branch.decided, t)
        self.lost.skipped += branch.mass - came
        row = t - branch.at
        mine = branch.own[row]
        logp = float(branch.read.logp[row])
        own = came * math.exp(logp)
        taken = [Taken(mine, logp, own)]
        held = math.exp(logp)
        listed = zip(branch.read.ids[row].tolist(), branch.read.choices[row].tolist(), strict=True)
        covered = 0.0
        places = itertools.count(1)
        for token, lp in listed:
            if token < 0 or covered >= self.ask.cover or next(places) > self.ask.width:
                break
            covered += math.exp(lp)
            if token == mine or came * math.exp(lp) < self.ask.least:
                continue
            held += math.exp(lp)
            mass = came * math.exp(lp)
            taken.append(Taken(token, lp, mass))
            self.lost.waiting += mass
            self._push(mass, Pending(mass, branch.name, t, token, lp, branch.decisions + 1))
        rest = came * max(0.0, 1.0 - held)
        self.lost.other_tokens += rest
        entropy = float(branch.read.entropy[row])
        self.decisions.append(Decision(branch.name, t, came, entropy, taken, rest))
        branch.mass, branch.decided = own, t + 1
        branch.decisions += 1
        self._offer(branch)
