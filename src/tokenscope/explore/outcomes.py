"""Branches with one key are one outcome: how much mass each holds, and between which bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenscope.explore.frontier import Branch
from tokenscope.explore.intervals import bootstrap_entropy, entropy, entropy_bounds, wilson


@dataclass(frozen=True, slots=True)
class Outcome:
    """What several branches come to.

    ``name``: by order of mass ("1", "2" ...). ``mass``: sum of its branches' masses (of draws:
    their share). ``low``, ``high``: bounds of its probability. Enumerated: ``low`` is the
    mass of the texts that were read to their end, ``high`` is 1 less that of the other outcomes';
    every text that was not read may belong to it. Drawn: the Wilson interval. ``branches``: names,
    most mass first; the first of them is shown for it. ``draws``: how often it was drawn.
    """

    name: str
    key: str
    mass: float
    low: float
    high: float
    branches: tuple[int, ...]
    draws: int = 0


@dataclass(frozen=True, slots=True)
class Entropy:
    """Of the outcomes, nats, with the unexplored mass as a class of its own, and its bounds."""

    value: float
    low: float
    high: float


def enumerated(branches: Sequence[Branch], keys: Mapping[int, str]) -> list[Outcome]:
    """Outcomes of branches with masses, most mass first."""
    sure = {b.name: min(b.text_mass, 1.0) for b in branches}
    whole = math.fsum(sure.values())
    found = []
    for key, members in _grouped(branches, keys).items():
        low = math.fsum(sure[b.name] for b in members)
        members.sort(key=lambda b: (-b.mass, b.name))
        found.append(
            Outcome(
                "", key, math.fsum(b.mass for b in members), low,
                min(1.0, max(low, 1.0 - (whole - low))), tuple(b.name for b in members),
            )
        )  # fmt: skip
    return _named(found)


def drawn(branches: Sequence[Branch], keys: Mapping[int, str]) -> list[Outcome]:
    """Outcomes of branches that were drawn, with Wilson intervals, the largest share first."""
    n = sum(b.draws for b in branches)
    found = []
    for key, members in _grouped(branches, keys).items():
        count = sum(b.draws for b in members)
        members.sort(key=lambda b: (-b.draws, b.name))
        low, high = wilson(count, n)
        found.append(
            Outcome("", key, count / n, low, high, tuple(b.name for b in members), count)
        )  # fmt: skip
    return _named(found)


def entropy_of(outcomes: Sequence[Outcome], unexplored: float) -> Entropy:
    """The entropy of outcomes that were enumerated. Its bounds hold for any distribution over
    these outcomes and one more (all others together) that agrees with what was read."""
    value = entropy([*(o.mass for o in outcomes), unexplored])
    sure = [*(o.low for o in outcomes), 0.0]
    low, high = entropy_bounds(sure, 1.0 - math.fsum(sure))
    return Entropy(value, low, high)


def entropy_drawn(outcomes: Sequence[Outcome], seed: int = 0) -> Entropy:
    """The entropy of drawn shares, with a bootstrap interval."""
    low, high = bootstrap_entropy([o.draws for o in outcomes], seed=seed)
    return Entropy(entropy([o.mass for o in outcomes]), low, high)


def _grouped(branches: Sequence[Branch], keys: Mapping[int, str]) -> dict[str, list[Branch]]:
    groups: dict[str, list[Branch]] = {}
    for branch in branches:
        groups.setdefault(keys[branch.name], []).append(branch)
    return groups


def _named(found: list[Outcome]) -> list[Outcome]:
    found.sort(key=lambda o: (-o.mass, o.branches))
    return [
        Outcome(str(n), o.key, o.mass, o.low, o.high, o.branches, o.draws)
        for n, o in enumerate(found, 1)
    ]
