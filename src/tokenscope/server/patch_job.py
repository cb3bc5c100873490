"""A patch map as a job: what it will cost, progress, the map."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from tokenscope.control import Control
from tokenscope.runs.patch import Patched, PatchJob, plain
from tokenscope.server import explain_wire as wire
from tokenscope.server.feed import Gap
from tokenscope.server.jobs import Job
from tokenscope.server.wire import DoneEvent


class Patch:
    """``make`` gets progress and cancel; what it makes has been checked already."""

    def __init__(self, make: Callable[[Control], PatchJob]) -> None:
        self._job: Job | None = None
        # made here, so that a bad request is refused before there is a job
        self._patching = make(Control(self._progress, self._cancelled))

    def run(self, job: Job) -> None:
        """From ``start`` to ``done``."""
        self._job = job
        cost = self._patching.cost
        job.say(wire.PatchStart(type="start", run=job.id, cost=str(cost), runs=cost.runs))
        job.say(patched(self._patching.run()))
        job.say(DoneEvent(type="done", finish="done"))

    def cancel(self) -> None:
        """It asks between its pieces of work."""

    def fail(self, job: Job) -> None:
        """Nothing is kept of it."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """Nothing falls out: a map has few events."""
        return []

    def _progress(self, done: int, total: int, what: str) -> None:
        if self._job is not None:
            self._job.step(done, total, what)

    def _cancelled(self) -> bool:
        return self._job is not None and self._job.cancelled()


def patched(made: Patched) -> wire.PatchEvent:
    """A map as an event."""
    m = made.map
    return wire.PatchEvent(
        type="patch", direction=m.direction, clean=m.clean, corrupt=m.corrupt,
        token=made.token, token_id=m.target.a, contrast=made.contrast, contrast_id=m.target.b,
        columns=list(made.columns), same=m.pair.same,
        parts=[wire.PatchPart(name=n, effect=plain(m.effect(n))) for n in m.values],
        definitions=["patching", m.target.kind],
    )  # fmt: skip
