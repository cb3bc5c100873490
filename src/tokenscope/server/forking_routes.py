"""Forking tokens. Thin: parse, make the work, begin a job; or measure one place and answer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tokenscope.control import Control
from tokenscope.runs.forking import ForkingJob
from tokenscope.server import forking_wire as wire
from tokenscope.server.explore_wire import OutcomeKey
from tokenscope.server.forking_job import Forks, place
from tokenscope.server.house import TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.numbers import check_index
from tokenscope.server.wire import JobInfo

router = APIRouter(prefix="/api")


@router.post("/nodes/{node}/forking", status_code=202)
def forking_route(node: str, body: wire.ForkingRequest, house: TheHouse) -> JobInfo:
    """Which tokens change what comes of the text: a job; its events are ForkingEvents."""
    row, trace = house.store.node(node), house.store.trace(node)
    model = house.models.maker(trace)
    options: dict[str, Any] = body.model_dump()
    if body.region is not None:
        options["region"] = (body.region[0], body.region[1])
    with house.jobs.place() as taken, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        kept = ExitStack()
        work = Forks(lambda control: ForkingJob(model, trace, control=control, **options), kept)
        kept.push(held.pop_all())
        return taken.start("forking", row.session, node, work).info()


@router.get("/nodes/{node}/alternatives/{t}/outcomes")
async def outcomes_route(
    node: str, t: int, request: Request, house: TheHouse,
    width: Annotated[int, Query(ge=2, le=64)] = 4,
    outcome: Annotated[OutcomeKey, Query()] = "syntax",
    horizon: Annotated[int | None, Query(ge=1, le=2_000)] = None,
    language: Annotated[wire.Language, Query()] = "",
) -> wire.ForkPlace:  # fmt: skip
    """What each alternative of token ``t`` leads to, followed greedily for ``horizon`` tokens (by
    default to where the branch ends): the outcomes split by alternative."""

    def work(control: Control) -> wire.ForkPlace:
        trace = house.store.trace(node)
        check_index("t", t, len(trace))
        with house.models.lease(house.models.maker(trace)) as model:
            found = ForkingJob(
                model, trace, threshold=0.0, width=width, outcome=outcome, check=0,
                horizon=horizon, region=(t, t + 1), language=language, control=control,
            ).run()  # fmt: skip
        return place(found, found.places[0])

    return await worked(request, house, work)
