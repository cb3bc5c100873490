"""A patch map as server-sent events: what it will cost, progress, the map."""

from __future__ import annotations

from collections.abc import Callable

from tokenscope.control import Control
from tokenscope.runs.patch import Patched, PatchJob, plain
from tokenscope.server import explain_wire as wire
from tokenscope.server.explain_stream import Writer
from tokenscope.server.live import Slot


class PatchWriter(Writer):
    """One patch map on its way to a channel."""

    def __init__(self, make: Callable[[Control], PatchJob], node: str, slot: Slot) -> None:
        super().__init__(node, slot)
        self._job = make(self.control)
        slot.take(self)

    def tell(self) -> None:
        cost = self._job.cost
        self.say(wire.PatchStart(type="start", run=self.id, cost=str(cost), runs=cost.runs))
        self.say(patched(self._job.run()))


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
