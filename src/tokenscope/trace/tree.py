"""Traces that share prefixes, as a tree of branches. A value: every change gives a new tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tokenscope.errors import NotFound
from tokenscope.trace.drawn import Drawn
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd


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
class Tree(Drawn):
    """Branches by name, in the order in which they grew."""

    branches: Mapping[str, Branch] = field(default_factory=dict)

    pictures: ClassVar[tuple[str, ...]] = ("tree", "beside")

    @classmethod
    def of(cls, traces: Mapping[str, Trace]) -> Tree:
        """A tree out of traces by name. Each grew from the one that shares its longest start,
        among those that fewer tokens were put into, or that came first; a root shares none."""
        order = sorted(traces, key=lambda n: len(traces[n].origin.edits))
        tree = cls()
        for name in order:
            shared = {b.name: differs_at(b.trace, traces[name]) for b in tree.branches.values()}
            parent = max(shared, key=lambda n: shared[n], default=None)
            tree = tree.add(name, traces[name], parent if parent and shared[parent] else None)
        return tree

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

    def walk(self) -> Iterator[tuple[int, Branch]]:
        """Every branch behind the one that it grew from, with its depth (0: a root)."""
        waiting = [(0, branch) for branch in reversed(self.children(None))]
        while waiting:
            depth, branch = waiting.pop()
            yield depth, branch
            waiting += [(depth + 1, b) for b in reversed(self.children(branch.name))]

    def rows(self) -> list[dict[str, Any]]:
        """What the faces say of each branch, in the order of :meth:`walk`.

        ``own`` and ``instead``: the token that it has, and its parent has, at ``at`` ("" for none).
        ``mean_surprisal`` (nats) and ``joint_logprob`` (nats) are those of its own tokens that were
        not given: from ``at``, or from the end of a root's prompt, on. None where undefined.
        """
        return [self._row(depth, branch) for depth, branch in self.walk()]

    def _row(self, depth: int, branch: Branch) -> dict[str, Any]:
        trace, at = branch.trace, branch.at
        begin = at if branch.parent is not None else trace.n_prompt % max(len(trace), 1)
        instead = "" if branch.parent is None else _token(self[branch.parent].trace, at)
        known = "logprob" in trace.columns
        values = trace.column("logprob")[begin:] if known else np.zeros(0, np.float32)
        counted = values[np.isfinite(values)].astype(np.float64)
        return {
            "name": branch.name, "title": branch.title, "parent": branch.parent, "depth": depth,
            "at": at, "own": _token(trace, at) if branch.parent is not None else "",
            "instead": instead, "tokens": len(trace) - begin, "finish": trace.finish,
            "mean_surprisal": float(-counted.mean()) if len(counted) else None,
            "joint_logprob": float(counted.sum()) if len(counted) else None,
            "text": _text(trace, begin),
        }  # fmt: skip

    def to_pandas(self) -> pd.DataFrame:
        """:meth:`rows` as a frame."""
        import pandas as pd

        return pd.DataFrame(self.rows())


def _token(trace: Trace, t: int) -> str:
    if not 0 <= t < len(trace):
        return ""
    token = trace.tokens[t]
    return token.label or token.text


def _text(trace: Trace, begin: int) -> str:
    return trace.tokens.data[int(trace.tokens.offsets[begin]) :].decode("utf-8", "replace")
