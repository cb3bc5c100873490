"""Forking tokens as a job: what it will take, places as they are measured, the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenscope.runs.forked import Forking, Place
from tokenscope.runs.forking import ForkingJob
from tokenscope.server import forking_wire as wire
from tokenscope.server.explain_job import Asking
from tokenscope.server.present import numbers

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tokenscope.server.feed import Gap
    from tokenscope.server.jobs import Job


class Forks(Asking[ForkingJob]):
    """The gate, then place by place. Its log counts places where others count tokens."""

    def work(self, job: Job) -> None:
        """``start``, a ``place`` each, and ``columns``."""
        asked = self.asked
        cost = asked.cost
        job.say(
            wire.ForkingStart(
                type="start", run=job.id, at=asked.start, tokens=len(asked.asked),
                gated=len(asked.gated), skipped=asked.skipped,
                checked=len(asked.measured) - len(asked.gated), branches=cost.branches,
                most_tokens=cost.tokens, gate=asked.gate, threshold=asked.threshold,
                outcome=asked.outcome,
            )
        )  # fmt: skip
        for n, found in enumerate(asked.places(), 1):
            job.say(event(asked, found), tokens=n)
        job.say(columns(asked.result()), tokens=cost.places)

    def again(self, gap: Gap) -> list[BaseModel]:
        """Places that fell out of the log, and the columns after the last of all."""
        made: list[BaseModel] = [event(self.asked, p) for p in self.asked.done[gap.start : gap.end]]
        if gap.end == self.asked.cost.places:
            made.append(columns(self.asked.result()))
        return made


def event(asked: ForkingJob, found: Place) -> wire.ForkPlaceEvent:
    """A place as an event."""
    return wire.ForkPlaceEvent(type="place", place=place(asked.result(), found))


def place(found: Forking, p: Place) -> wire.ForkPlace:
    """A place as it travels."""
    return wire.ForkPlace.model_validate(found.place_json(p))


def columns(found: Forking) -> wire.ForkingDone:
    """What was skipped, and the columns."""
    start = found.start
    made = {n: numbers(v[start : start + found.tokens]) for n, v in found.columns().items()}
    return wire.ForkingDone(
        type="columns", skipped=found.skipped, skipped_share=found.skipped_share,
        checked=wire.GateChecked.model_validate(found.checked), decoded=found.decoded, **made,
    )  # fmt: skip
