"""Traces that share prefixes, as a tree of branches. A value: every change gives a new tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tokenscope.errors import NotFound
from tokenscope.trace.record import Trace


def differs_at(a: Trace, b: Trace) -> int:
    """Index of the first token in which two traces differ (the shorter length, if in none)."""
    n = min(len(a), len(b))
    unequal = np.nonzero(a.ids[:n] != b.ids[:n])[0]
    return int(unequal[0]) if len(unequal) else n


def joint_logprob(trace: Trace, start: int) -> float:
    """Sum of logprob (nats) over the tokens from ``start`` on: the weight of what differs."""
    values = trace.column("logprob")[start:].astype(np.float64)
    return float(np.nansum(values))


@dataclass(frozen=True, slots=True)
class Branch:
    """A trace in a tree. ``at``: the first token that is its own, not its parent's (0: root)."""

    name: str
    trace: Trace
    parent: str | None = None
    at: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """Branches by name, in the order in which they grew."""

    branches: Mapping[str, Branch] = field(default_factory=dict)

    def add(self, name: str, trace: Trace, parent: str | None = None, title: str = "") -> Tree:
        """The tree with one branch more. Raises NotFound when the parent is not in the tree."""
        at = differs_at(self[parent].trace, trace) if parent is not None else 0
        return Tree({**self.branches, name: Branch(name, trace, parent, at, title)})

    def remove(self, name: str) -> Tree:
        """The tree without a branch and all that grew from it."""
        gone = {name, *self.below(name)}
        return Tree({n: b for n, b in self.branches.items() if n not in gone})

    def __getitem__(self, name: str) -> Branch:
        try:
            return self.branches[name]
        except KeyError:
            raise NotFound(f"no branch {name!r} in the tree") from None

    def children(self, name: str | None) -> list[Branch]:
        """Branches that grew from ``name`` (None: the roots)."""
        return [b for b in self.branches.values() if b.parent == name]

    def siblings(self, name: str) -> list[Branch]:
        """Branches with the same parent, the named one among them."""
        return self.children(self[name].parent)

    def below(self, name: str) -> list[str]:
        """Names of everything that grew from ``name``, nearest first."""
        self[name]
        out = [b.name for b in self.children(name)]
        for child in list(out):
            out.extend(self.below(child))
        return out
