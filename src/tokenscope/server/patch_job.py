"""A patch map as a job: what it will cost, progress, the map."""

from __future__ import annotations

from tokenscope.runs.patch import Patched, PatchJob, plain
from tokenscope.server import explain_wire as wire
from tokenscope.server.explain_job import Asking
from tokenscope.server.jobs import Job


class Patch(Asking[PatchJob]):
    """The cost, then the map."""

    def work(self, job: Job) -> None:
        """``start`` and ``patch``."""
        cost = self.asked.cost
        job.say(wire.PatchStart(type="start", run=job.id, cost=str(cost), runs=cost.runs))
        job.say(patched(self.asked.run()))


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
