"""The application: routes, page, errors, and the guard around all of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import FastAPI

from tokenscope.decode.vectors import FOLDER as VECTORS
from tokenscope.records import FOLDER
from tokenscope.server import faults, gallery, page
from tokenscope.server.access import Access
from tokenscope.server.audit_job import FOLDER as AUDITS
from tokenscope.server.audit_job import Audits
from tokenscope.server.bodies import Bodies
from tokenscope.server.books import Books
from tokenscope.server.house import House
from tokenscope.server.jobs import MOST_RUNS, UNATTENDED, Jobs
from tokenscope.server.leaving import Left, left
from tokenscope.server.models import Models
from tokenscope.server.recorder import routes as recorder_routes
from tokenscope.server.recorder.errors import OpenAIErrors
from tokenscope.server.recorder.state import Recorder
from tokenscope.server.schema import add_routes
from tokenscope.server.security import Guard
from tokenscope.store import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tokenscope.runs.model import Model


def routes_of(house: House, folder: Path = page.FOLDER) -> FastAPI:
    """The application without its guard: for the tests that walk its routes."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(house.jobs.close)

    app = FastAPI(
        title="TokenScope", openapi_url=None, docs_url=None, redoc_url=None, lifespan=life,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.house = house
    faults.install(app)
    app.add_exception_handler(Left, left)
    add_routes(app)
    if house.recorder is not None:
        app.include_router(recorder_routes.router)
    app.include_router(page.router(folder))
    return app


def guarded(app: FastAPI, access: Access) -> ASGIApp:
    """The application as it is served."""
    return Guard(OpenAIErrors(Bodies(app)), access)


@dataclass(frozen=True)
class Served:
    """What a server serves, and the house behind it (to stop its runs when the server stops)."""

    app: ASGIApp
    house: House


def open_house(
    model: Model | Models, store: Store, access: Access, most_runs: int = MOST_RUNS,
    folder: Path = page.FOLDER, unattended: float = UNATTENDED, recorder: Recorder | None = None,
    key: Path | None = None,
) -> Served:  # fmt: skip
    """Put model, store and page together, behind the guard. ``key``: the file that signs the
    records, where it does not lie beside them."""
    logging.getLogger("uvicorn.access").disabled = True  # a request line may hold the key
    models = model if isinstance(model, Models) else Models.of_one(model)
    models.keep_vectors(store.path / VECTORS)
    books = Books(store.path / FOLDER, key)
    books.settle(store)
    jobs = Jobs(most_runs, unattended, books.keep)
    audits = Audits(store.path / AUDITS)
    house = House(models, store, books, audits, jobs, gallery.read(), recorder=recorder)
    return Served(guarded(routes_of(house, folder), access), house)
