"""Explorations. Thin: parse, make the work, begin a job."""

from __future__ import annotations

from contextlib import ExitStack

from fastapi import APIRouter

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.explore.asked import Ask
from tokenscope.runs.explore import Exploring
from tokenscope.server import explore_wire as wire
from tokenscope.server.explore_job import Explore
from tokenscope.server.house import TheHouse
from tokenscope.server.wire import JobInfo
from tokenscope.trace.edits import read

router = APIRouter(prefix="/api")
SAMPLER = ("temperature", "top_p", "seed")
OTHERS = ("at", "outcome", "resume", "masses_of", "edits", "memory", *SAMPLER)


@router.post("/nodes/{node}/explore", status_code=202)
def explore_route(node: str, body: wire.ExploreRequest, house: TheHouse) -> JobInfo:
    """What else would have been written: a job; its events are ExploreEvents."""
    row, trace = house.store.node(node), house.store.trace(node)
    model = house.models.maker(trace)
    asked = body.model_dump()
    resume = None if body.resume is None else house.explorations.get(body.resume, node)
    options = {k: v for k, v in asked.items() if k not in OTHERS}
    if body.region is not None:
        options["region"] = (body.region[0], body.region[1])
    ask = Ask(**options)
    sampler = {k: asked[k] for k in SAMPLER if asked[k] is not None}
    if body.edits is not None:
        sampler["edits"] = tuple(read(e.model_dump(by_alias=True)) for e in body.edits)
    drawn = body.way == "sampled" or body.masses_of == "drawn"
    if sampler and not drawn:
        raise InputError("masses_of", "a sampler or edits go with masses of what is drawn")

    def make(control: Control) -> Exploring:
        return Exploring(
            model, trace, body.at, ask=ask, outcome=body.outcome, control=control, resume=resume,
            sampler=sampler if drawn else None, memory=body.memory,
        )  # fmt: skip

    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        kept = ExitStack()
        work = Explore(make, kept, house.explorations)
        kept.push(held.pop_all())
        return place.start("explore", row.session, node, work).info()
