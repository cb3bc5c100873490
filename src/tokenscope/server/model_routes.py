"""The models: which there are, what each can do, load and unload."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tokenscope.control import Cancelled
from tokenscope.server import present, wire
from tokenscope.server.feed import Gap
from tokenscope.server.house import TheHouse
from tokenscope.server.jobs import Job
from tokenscope.server.models import Models

router = APIRouter(prefix="/api")


class Load:
    """Loading as a job: it has two ends and nothing between that could be told."""

    def __init__(self, models: Models, name: str) -> None:
        self._models = models
        self._name = name
        self._left = False

    def run(self, job: Job) -> None:
        """Load; a job that was stopped unloads what has been loaded by then."""
        job.step(0, 1, f"loading {self._models.offer(self._name).name}")
        self._models.load(self._name)
        if self._left:
            self._models.unload(self._name)
            raise Cancelled("loading")
        job.step(1, 1, "loaded")
        job.say(wire.DoneEvent(type="done", finish="done"))

    def cancel(self) -> None:
        """Loading itself cannot be stopped half-way."""
        self._left = True

    def fail(self, job: Job) -> None:
        """The offer says what failed."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """It has too few events for any to fall out."""
        return []


@router.get("/model")
def model(
    house: TheHouse, id: Annotated[str | None, Query(max_length=100)] = None
) -> wire.ModelResponse:
    """A loaded model (without an id the first), what it can do, and the columns that it yields."""
    found = house.models.get(id)
    return present.model(found.info, found.abilities)


@router.get("/models")
def models_route(house: TheHouse) -> list[wire.ModelState]:
    """Every model that this server offers, loaded or not."""
    return [
        wire.ModelState(
            id=o.id, name=o.name, state=o.state, bytes=o.size, digest=o.digest or None,
            error=o.error or None,
        )
        for o in house.models.all()
    ]  # fmt: skip


@router.post("/models/{name}/load", status_code=202)
def load_route(name: str, house: TheHouse) -> wire.JobInfo:
    """Load a model: a job that every page sees."""
    house.models.offer(name)
    with house.jobs.place() as place:
        return place.start("load", "", "", Load(house.models, name)).info()


@router.post("/models/{name}/unload", status_code=204)
def unload_route(name: str, house: TheHouse) -> None:
    """Give a model's memory back; refused while something runs on it."""
    house.models.unload(name)
