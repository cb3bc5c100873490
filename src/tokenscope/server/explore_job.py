"""An exploration as a job: the cost, branches as they grow, how masses stand after every wave."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack

from pydantic import BaseModel

from tokenscope.control import Cancelled, Control
from tokenscope.errors import NotFound
from tokenscope.explore.frontier import Branch
from tokenscope.runs.explore import Exploring
from tokenscope.runs.explored import Explored, masses_of
from tokenscope.server import explore_wire as wire
from tokenscope.server.explain_job import Asking
from tokenscope.server.feed import Gap
from tokenscope.server.jobs import Job
from tokenscope.server.present import numbers

KEPT = 4  # explorations that can be gone on with


class Explorations:
    """The last explorations, by run: what ``resume`` goes on with."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[str, Explored]] = OrderedDict()

    def keep(self, run: str, node: str, found: Explored) -> None:
        """Keep one; the oldest goes."""
        with self._lock:
            self._held[run] = (node, found)
            while len(self._held) > self._most:
                self._held.popitem(last=False)

    def get(self, run: str, node: str) -> Explored:
        """Raises NotFound when it is not of this branch, or not kept any more."""
        with self._lock:
            held = self._held.get(run)
        if held is None or held[0] != node:
            raise NotFound("no such exploration of this branch is kept")
        return held[1]


class Explore(Asking[Exploring]):
    """The tree as it grows. Its log counts branches where others count tokens."""

    def __init__(
        self, make: Callable[[Control], Exploring], held: ExitStack, kept: Explorations
    ) -> None:  # fmt: skip
        super().__init__(make, held)
        self._kept = kept
        self._said = 0

    def work(self, job: Job) -> None:
        """``start``, then ``branch`` and ``state`` events wave by wave, and ``decisions``."""
        work = self.asked
        cost, ask = work.cost, work.ask
        job.say(
            wire.ExploreStart(
                type="start", run=job.id, at=work.at, way=ask.way,
                masses_of=masses_of(work.sampler), outcome=work.outcome,
                horizon=ask.horizon, branches=cost.branches, tokens=cost.tokens, bytes=cost.bytes,
                allowed=work.spent.allowed, seconds=cost.seconds,
            )
        )  # fmt: skip
        self._tell(job)  # what an exploration that is gone on with had
        for _ in work.waves():
            self._tell(job)
        found = work.result()
        self._kept.keep(job.id, job.node, found)
        job.say(decisions(found), tokens=self._said)
        if job.cancelled():
            raise Cancelled("exploration")

    def again(self, gap: Gap) -> list[BaseModel]:
        """Branches that fell out of the log; after the last of all, how things stand."""
        found = self.asked.result()
        made: list[BaseModel] = [branch(found, b) for b in found.branches[gap.start : gap.end]]
        return [*made, state(found)] if gap.end == len(found.branches) else made

    def _tell(self, job: Job) -> None:
        found = self.asked.result()
        if not found.branches:
            return
        for b in found.branches[self._said :]:
            self._said += 1
            job.say(branch(found, b), tokens=self._said)
        job.say(state(found), tokens=self._said)


def branch(found: Explored, b: Branch) -> wire.ExploreBranch:
    """A branch as an event."""
    return wire.ExploreBranch(
        type="branch", name=b.name, parent=b.parent, at=b.at, ids=found.ids(b.name),
        text=found.text(b.name), finish=b.finish, text_mass=b.text_mass,
    )  # fmt: skip


def decisions(found: Explored) -> wire.ExploreDecisions:
    """Every decision and the columns of what was written, as an event."""
    split, at = found.split, found.at
    columns = found.columns()
    return wire.ExploreDecisions(
        type="decisions",
        decisions=[
            wire.ExploreDecision(
                branch=s.branch, at=s.at, reach=s.reach, entropy=s.token_entropy,
                semantic=s.semantic, cosmetic=s.cosmetic, rest=s.rest,
                alternatives=[
                    wire.ExploreAlternative(
                        id=a["id"], mass=a["mass"], unexplored=a["unexplored"],
                        outcomes=[wire.LedTo(**o) for o in a["outcomes"]],
                    )
                    for a in found.alternatives(s)
                ],
            )
            for s in (split.decisions if split is not None else ())
        ],
        semantic=split.semantic if split is not None else 0.0,
        cosmetic=split.cosmetic if split is not None else 0.0,
        semantic_column=numbers(columns["semantic"][at:]),
        cosmetic_column=numbers(columns["cosmetic"][at:]),
    )  # fmt: skip


def state(found: Explored) -> wire.ExploreState:
    """How things stand, as an event."""
    lost, entropy = found.unexplored, found.entropy
    return wire.ExploreState(
        type="state", masses=[b.mass for b in found.branches],
        enumerated_to=[b.decided for b in found.branches],
        draws=[b.draws for b in found.branches],
        outcomes=[
            wire.ExploreOutcome(
                name=o.name, label=found.label(o), mass=o.mass, low=o.low, high=o.high,
                branches=list(o.branches), draws=o.draws,
            )
            for o in found.outcomes
        ],
        unexplored=lost.total,
        parts=wire.UnexploredParts(
            other_tokens=lost.other_tokens, skipped=lost.skipped, waiting=lost.waiting
        ),
        entropy=entropy.value, entropy_low=entropy.low, entropy_high=entropy.high,
        tokens=found.spent.tokens, bytes=found.spent.bytes, ended=found.spent.ended or None,
        finished=found.finished,
    )  # fmt: skip
