"""What an exploration found: branches, outcomes, what is unexplored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tokenscope.explore.asked import Ask
from tokenscope.explore.cost import PER_BRANCH, PER_PIECE, Spent
from tokenscope.explore.frontier import Branch, Frontier, Unexplored
from tokenscope.explore.keys import Ended, Key, key_of
from tokenscope.explore.outcomes import (
    Entropy,
    Outcome,
    drawn,
    entropy_drawn,
    entropy_of,
    enumerated,
)
from tokenscope.explore.uncertainty import Share, Split, split
from tokenscope.runs.forked import label_of
from tokenscope.runs.settings import Settings
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.columns import F32
from tokenscope.trace.drawn import Drawn
from tokenscope.trace.join import Part, join
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace
from tokenscope.trace.tree import Tree

if TYPE_CHECKING:
    import pandas as pd


MassesOf = Literal["model", "edits", "sampler"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a branch keeps: the rows of its own tokens, and where they go on from."""

    parent: int | None
    at: int
    part: Part
    origin: Origin
    finish: str

    @classmethod
    def of(cls, parent: int | None, at: int, trace: Trace, finish: str) -> Rows:
        """The rows of a trace from token ``at`` on."""
        held = trace.alternatives
        if held is not None:  # the table of the whole trace would be kept once a branch
            ids, logprobs = held.ids[at:].copy(), held.logprobs[at:].copy()
            own = {int(i) for i in ids.reshape(-1)}
            held = Alternatives(
                ids, logprobs, {i: held.pieces[i] for i in own if i in held.pieces},
                {i: held.labels[i] for i in own if i in held.labels},
            )  # fmt: skip
        part = Part(
            at, trace.tokens.slice(at, len(trace)),
            {n: c.values[at:].copy() for n, c in trace.columns.items()}, held,
            quality={n: c.quality for n, c in trace.columns.items()},
        )  # fmt: skip
        return cls(parent, at, part, trace.origin, finish)

    @property
    def nbytes(self) -> int:
        """Bytes of what it keeps, as ``explore.cost`` counts them."""
        held = self.part.alternatives
        size = sum(c.nbytes for c in self.part.columns.values())
        if held is not None:
            size += held.ids.nbytes + held.logprobs.nbytes + PER_PIECE * len(held.pieces)
        return size + PER_BRANCH

    @staticmethod
    def trace(rows: Sequence[Rows], base: Trace, name: int) -> Trace:
        """A branch as a trace, from the first token on."""
        chain: list[Rows] = []
        at: int | None = name
        while at is not None:
            chain.append(rows[at])
            at = rows[at].parent
        made = base
        for held in reversed(chain):
            made = join(
                made.cut(held.at), [held.part], n_prompt=base.n_prompt, origin=held.origin,
                language=base.language,
            )  # fmt: skip
        finish: Any = chain[0].finish
        return replace(made, finish=finish)


@dataclass(frozen=True, eq=False)
class Explored(Drawn):
    """Branches with their masses, outcomes, and the mass that is unexplored.

    ``branches``: see ``explore.frontier``; sum of their masses + ``unexplored.total`` = 1.
    ``outcome_of``: branch name -> the name of its outcome. ``base``: the trace up to ``at``.
    """

    pictures: ClassVar[tuple[str, ...]] = ("outcomes",)

    ask: Ask
    at: int
    base: Trace
    frontier: Frontier
    rows: tuple[Rows, ...]
    outcome: str
    language: str
    keys: Mapping[int, str]
    outcomes: tuple[Outcome, ...]
    entropy: Entropy
    spent: Spent
    sampler: Settings | None = None
    outcome_of: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, frontier: Frontier, base: Trace, rows: Sequence[Rows], key: Key, outcome: str,
        language: str, spent: Spent, sampler: Settings | None = None,
    ) -> Explored:  # fmt: skip
        """As things stand in ``frontier``, which goes on living: this keeps a copy."""
        held = frontier.again(frontier.ask)
        keys = {b.name: key(_ended(base, rows, b.name, language)) for b in held.branches}
        if held.ask.way != "sampled":
            found = enumerated(held.branches, keys)
            spread = entropy_of(found, held.lost.total)
        else:
            found = drawn(held.branches, keys)
            spread = entropy_drawn(found)
        names = {b: o.name for o in found for b in o.branches}
        return cls(
            held.ask, held.at, base, held, tuple(rows), outcome, language, keys, tuple(found),
            spread, spent, sampler, names,
        )  # fmt: skip

    # --- what there is -------------------------------------------------------------------------
    @property
    def branches(self) -> tuple[Branch, ...]:
        """In the order in which they were decoded; branch 0 is what was written."""
        return tuple(self.frontier.branches)

    @property
    def unexplored(self) -> Unexplored:
        """The mass that no branch holds, by where it went."""
        return self.frontier.lost

    @property
    def finished(self) -> bool:
        """Whether everything that was asked for is decoded; otherwise ``resume`` goes on."""
        return not self.frontier.more

    @cached_property
    def split(self) -> Split | None:
        """Every decision's uncertainty, cosmetic and semantic; see ``explore.uncertainty``. None
        where paths were drawn: nothing was decided."""
        f = self.frontier
        if self.ask.way == "sampled":
            return None
        return split(f.branches, f.decisions, list(f.waiting()), self.keys)

    def trace(self, name: int) -> Trace:
        """A branch as a trace: its columns are those of a fork by its tokens."""
        return Rows.trace(self.rows, self.base, name)

    def ids(self, name: int) -> list[int]:
        """The tokens of a branch from ``at`` on: fork by them to keep the branch."""
        return [int(i) for i in self.trace(name).ids[self.at :]]

    def text(self, name: int) -> str:
        """What a branch says from ``at`` on."""
        return _ended(self.base, self.rows, name, self.language).text

    def tree(self) -> Tree:
        """All branches as a tree of traces, by name."""
        tree = Tree()
        for b in self.branches:
            tree = tree.add(
                str(b.name), self.trace(b.name), None if b.parent is None else str(b.parent)
            )
        return tree

    def by(self, outcome: str | Key) -> Explored:
        """The same branches, told apart by another key. Nothing is decoded."""
        name = outcome if isinstance(outcome, str) else "own"
        return Explored.of(
            self.frontier, self.base, self.rows, key_of(outcome), name, self.language, self.spent,
            self.sampler,
        )  # fmt: skip

    def alternatives(self, share: Share) -> list[dict[str, Any]]:
        """What each alternative of a decision leads to: ``id``, its ``mass``, the mass that each of
        the ``outcomes`` (by name) gets through it, and what is ``unexplored`` behind it."""
        names = {o.key: o.name for o in self.outcomes}
        found = []
        for token, masses in zip(share.ids, share.ways, strict=True):
            known = {names[k]: m for k, m in masses.items() if k is not None}
            order = sorted(known.items(), key=lambda item: -item[1])
            found.append({
                "id": token, "mass": math.fsum(masses.values()),
                "outcomes": [{"outcome": n, "mass": m} for n, m in order],
                "unexplored": masses.get(None, 0.0),
            })  # fmt: skip
        return found

    def columns(self) -> dict[str, F32]:
        """``semantic`` and ``cosmetic`` of the tokens of branch 0, float32 (T,); NaN where no
        decision was made."""
        size = len(self.trace(0))
        made = {n: np.full(size, np.nan, dtype=np.float32) for n in COLUMN_NAMES}
        for share in self.split.decisions if self.split is not None else ():
            if share.branch == 0:
                made["semantic"][share.at] = share.semantic
                made["cosmetic"][share.at] = share.cosmetic
        return made

    def with_columns(self) -> Trace:
        """What was written, with the columns ``semantic`` and ``cosmetic`` (nats, NaN where no
        decision was made). Their sum is the explored entropy of the token. Quality ``estimate``:
        what stands behind the last decisions is one continuation of many."""
        trace = self.trace(0)
        for name, column in self.columns().items():
            trace = trace.with_column(name, column, "estimate")
        return trace

    # --- faces ---------------------------------------------------------------------------------
    def to_pandas(self) -> pd.DataFrame:
        """One row per branch, most mass first."""
        import pandas as pd

        rows = self.to_json()["branches"]
        return pd.DataFrame(rows).drop(columns=["ids"])

    def to_json(self) -> dict[str, Any]:
        """One plain document; the contract of ``tokenscope explore --json``."""
        order = sorted(self.branches, key=lambda b: (-b.mass, b.name))
        split = self.split
        return {
            "way": self.ask.way, "masses_of": self.masses_of, "outcome_key": self.outcome,
            "language": self.language, "at": self.at, "asked": self.ask.to_json(),
            "branches": [self._branch(b) for b in order],
            "outcomes": [self._outcome(o) for o in self.outcomes],
            "unexplored": self.unexplored.total,
            "unexplored_parts": {
                "other_tokens": self.unexplored.other_tokens,
                "skipped": self.unexplored.skipped, "waiting": self.unexplored.waiting,
            },
            "entropy": {
                "value": self.entropy.value, "low": self.entropy.low, "high": self.entropy.high,
            },
            "sampler": self._sampler(),
            "semantic": None if split is None else split.semantic,
            "cosmetic": None if split is None else split.cosmetic,
            "decisions": [
                {
                    "branch": s.branch, "at": s.at, "reach": s.reach, "entropy": s.token_entropy,
                    "explored": s.explored, "semantic": s.semantic, "cosmetic": s.cosmetic,
                    "alternatives": self.alternatives(s), "rest": s.rest,
                }
                for s in (split.decisions if split is not None else ())
            ],
            "finished": self.finished, "ended": self.spent.ended, "tokens": self.spent.tokens,
            "bytes": self.spent.bytes, "allowed_bytes": self.spent.allowed,
            "seconds": round(self.spent.seconds, 3),
        }  # fmt: skip

    def _branch(self, b: Branch) -> dict[str, Any]:
        return {
            "name": b.name, "parent": b.parent, "at": b.at, "mass": b.mass,
            "text_mass": b.text_mass, "complete": b.complete, "enumerated_to": b.decided,
            "decisions": b.decisions, "text": self.text(b.name), "ids": self.ids(b.name),
            "finish": b.finish, "outcome": self.outcome_of[b.name], "draws": b.draws,
        }  # fmt: skip

    def _outcome(self, o: Outcome) -> dict[str, Any]:
        return {
            "name": o.name, "label": self.label(o), "mass": o.mass, "low": o.low, "high": o.high,
            "branches": list(o.branches), "draws": o.draws,
        }  # fmt: skip

    @property
    def masses_of(self) -> MassesOf:
        """Which distribution the masses are of: the ``model``'s own, that after ``edits``, or that
        of the ``sampler`` (after edits, penalties, temperature and truncation)."""
        return masses_of(self.sampler)

    def _sampler(self) -> dict[str, Any] | None:
        held = self.sampler
        if held is None:
            return None
        edits = [e.to_json() for e in held.edits]
        return {**held.sampler().to_json(), "seed": held.seed, "edits": edits}

    def label(self, outcome: Outcome) -> str:
        """A short text for an outcome: what its likeliest branch says, or the key of a pattern."""
        named = self.outcome.partition(":")[0] not in ("bytes", "syntax")
        text = outcome.key if named else self.text(outcome.branches[0])
        return label_of(text)


def masses_of(sampler: Settings | None) -> MassesOf:
    """What a distribution is called that these settings make."""
    if sampler is None:
        return "model"
    return "sampler" if sampler.sampler().changes else "edits"


COLUMN_NAMES = ("semantic", "cosmetic")


def _ended(base: Trace, rows: Sequence[Rows], name: int, language: str) -> Ended:
    held = rows[name]
    pieces, at, end = [held.part.tokens.data], held.parent, held.at
    while at is not None:
        above = rows[at]
        pieces.append(above.part.tokens.slice(0, end - above.at).data)
        at, end = above.parent, above.at
    start = len(base.tokens.data)
    return Ended(
        base.tokens.data + b"".join(reversed(pieces)), start, language, held.finish
    )  # fmt: skip
