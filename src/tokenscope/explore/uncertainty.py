"""What a decision's uncertainty is about: how the text is written, or what comes of it.

At a decision let A be the alternative (those that no branch follows are one more) and O the
outcome at the end (unexplored mass is one more outcome). Then H(A) = I(A;O) + H(A|O): **semantic**
is what the token tells of the outcome, **cosmetic** what is the same outcome whichever token.
Weighted by the mass that comes to each decision, the semantic parts of all decisions add up to the
entropy of the outcomes H(O), the cosmetic ones to H(path | O), and both to the entropy of the
explored paths (the chain rule of entropy; Cover & Thomas 2006, 2.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenscope.explore.frontier import Branch, Decision, Pending
from tokenscope.explore.intervals import entropy

UNEXPLORED = None  # no key is that
Masses = dict[str | None, float]


@dataclass(frozen=True, slots=True)
class Share:
    """Of one decision, nats. ``reach``: the mass that comes to it; ``token_entropy``: of all
    tokens there; ``explored``: of what is told apart here, = ``semantic`` + ``cosmetic``.
    ``ids``: the alternatives, the branch's own token first; ``ways``: of each, key -> the mass
    that comes to this outcome by it (None: unexplored); ``rest``: of what no alternative took."""

    branch: int
    at: int
    reach: float
    token_entropy: float
    explored: float
    semantic: float
    cosmetic: float
    ids: tuple[int, ...] = ()
    ways: tuple[Masses, ...] = ()
    rest: float = 0.0


@dataclass(frozen=True, slots=True)
class Split:
    """All decisions, and their sums weighted by reach. ``skipped``: the same for leaving a path
    where no decision was made; ``total`` = semantic + cosmetic is the entropy of the paths."""

    decisions: tuple[Share, ...]
    semantic: float
    cosmetic: float

    @property
    def total(self) -> float:
        """The entropy of the explored paths."""
        return self.semantic + self.cosmetic


def split(
    branches: Sequence[Branch], decisions: Sequence[Decision], waiting: Sequence[Pending],
    keys: Mapping[int, str],
) -> Split:  # fmt: skip
    """The split over a tree. ``keys``: the outcome of each branch."""
    order: dict[int, list[Decision]] = {}
    for decision in decisions:
        order.setdefault(decision.branch, []).append(decision)
    child = {(b.parent, b.at, b.own[0]): b for b in branches}
    events: dict[tuple[int, int], list[Masses]] = {}
    ends: dict[int, Masses] = {}
    skips: list[list[Masses]] = []
    # children have larger numbers than their parents, later decisions of a path come later
    for branch in sorted(branches, key=lambda b: -b.name):
        below: Masses = {keys[branch.name]: branch.mass}
        mine = order.get(branch.name, [])
        for n in range(len(mine) - 1, -1, -1):
            decision = mine[n]
            parts: list[Masses] = [below]
            for taken in decision.taken[1:]:
                made = child.get((branch.name, decision.at, taken.id))
                parts.append(ends[made.name] if made is not None else {UNEXPLORED: taken.mass})
            parts.append({UNEXPLORED: decision.rest})
            events[branch.name, decision.at] = parts
            below = _sum(parts)
            came = mine[n - 1].taken[0].mass if n else _start(branch, order)
            if came - decision.mass > 0.0:  # left where no decision was made
                parts = [below, {UNEXPLORED: came - decision.mass}]
                skips.append(parts)
                below = _sum(parts)
        ends[branch.name] = below
    shares = []
    for decision in decisions:
        parts = events[decision.branch, decision.at]
        whole, semantic = measure(parts)
        shares.append(
            Share(
                decision.branch, decision.at, decision.mass, decision.entropy, whole, semantic,
                whole - semantic, tuple(t.id for t in decision.taken), tuple(parts[:-1]),
                decision.rest,
            )
        )  # fmt: skip
    semantic = math.fsum(s.reach * s.semantic for s in shares)
    cosmetic = math.fsum(s.reach * s.cosmetic for s in shares)
    for parts in skips:
        whole, told = measure(parts)
        mass = math.fsum(v for p in parts for v in p.values())
        semantic += mass * told
        cosmetic += mass * (whole - told)
    return Split(tuple(shares), semantic, cosmetic)


def _start(
    branch: Branch, order: Mapping[int, list[Decision]]
) -> float:  # fmt: skip
    """The mass with which a branch began."""
    if branch.parent is None:
        return 1.0
    for decision in order[branch.parent]:
        if decision.at == branch.at:
            return next(t.mass for t in decision.taken[1:] if t.id == branch.own[0])
    raise AssertionError("a branch without its decision")


def _sum(parts: Sequence[Masses]) -> Masses:
    out: Masses = {}
    for part in parts:
        for key, mass in part.items():
            out[key] = out.get(key, 0.0) + mass
    return out


def measure(parts: Sequence[Masses]) -> tuple[float, float]:
    """(H(A), I(A;O)) of one decision, both in nats, of masses that need not add up to 1."""
    sizes = [math.fsum(p.values()) for p in parts]
    whole = math.fsum(sizes)
    if whole <= 0.0:
        return 0.0, 0.0
    alternatives = entropy([s / whole for s in sizes])
    outcomes = entropy([m / whole for m in _sum(parts).values()])
    joint = entropy([m / whole for p in parts for m in p.values()])
    semantic = alternatives + outcomes - joint
    return alternatives, min(max(0.0, semantic), alternatives)
