"""The models: which there are, what each can do, load and unload."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tokenscope.control import Cancelled, Control
from tokenscope.server import present, wire
from tokenscope.server.at_hand import known_here
from tokenscope.server.feed import Gap
from tokenscope.server.house import TheHouse
from tokenscope.server.jobs import Job
from tokenscope.server.models import Models, Offer

router = APIRouter(prefix="/api")


class Load:
    """Loading as a job: it tells the share done, and what is being done."""

    def __init__(self, models: Models, name: str) -> None:
        self._models = models
        self._name = name
        self._control = Control()

    def run(self, job: Job) -> None:
        """Load; a job that was stopped leaves nothing loaded."""
        offer = self._models.offer(self._name)
        offer.job = job.id
        self._control = Control(
            lambda done, total, what: job.step(done, total, f"{offer.name}: {what}"), job.cancelled
        )
        try:
            self._models.load(self._name, self._control)
        finally:
            offer.job = ""
        if self._control.cancelled:
            self._models.unload(self._name)
            raise Cancelled("loading")
        job.step(100, 100, f"{offer.name}: loaded")
        job.say(wire.DoneEvent(type="done", finish="done"))

    def cancel(self) -> None:
        """Between two tensors, or when it is loaded."""
        self._control.cancel()

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
    return [_state(o) for o in house.models.all()]


@router.post("/models")
def offer_route(body: wire.OfferRequest, house: TheHouse) -> wire.ModelState:
    """Offer a model of the library in a form of its own beside what is offered; it is not loaded
    by this."""
    known_here(house.models, body.address)
    return _state(house.models.also(body.address, body.dtype, body.max_memory))


def _state(o: Offer) -> wire.ModelState:
    dtype = o.model.info.dtype if o.model is not None else o.dtype
    return wire.ModelState(
        id=o.id, name=o.name, state=o.state, bytes=o.size, digest=o.digest or None,
        error=o.error or None, address=o.address or "bundled", dtype=dtype,
        max_memory=o.ceiling, taken=o.taken if o.model is not None else None,
        in_use=o.users > 0, run=o.job or None,
    )  # fmt: skip


@router.get("/columns")
def columns_route() -> list[wire.ColumnInfo]:
    """Every column there is, whichever model is loaded, or none."""
    return present.columns()


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
