"""What every route needs: the models, the store, the jobs, the gallery."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from tokenscope.runs.structure import Followers
from tokenscope.server.audit_job import Audits
from tokenscope.server.books import Books
from tokenscope.server.explore_job import Explorations
from tokenscope.server.jobs import Jobs
from tokenscope.server.ledger_job import Ledgers
from tokenscope.server.models import Models
from tokenscope.server.recorder.state import Recorder
from tokenscope.server.wire import GalleryItem
from tokenscope.store import Store

if TYPE_CHECKING:
    from tokenscope.runs.model import Model


@dataclass(frozen=True)
class House:
    """Some models, one store. Lives as long as the application."""

    models: Models
    store: Store
    books: Books
    audits: Audits
    jobs: Jobs = field(default_factory=Jobs)
    gallery: list[GalleryItem] = field(default_factory=list)
    followers: Followers = field(default_factory=Followers)
    explorations: Explorations = field(default_factory=Explorations)
    ledgers: Ledgers = field(default_factory=Ledgers)
    recorder: Recorder | None = None

    @property
    def model(self) -> Model:
        """The model that is meant where none is named. Raises ModelNotLoaded."""
        return self.models.get()


def the_house(request: Request) -> House:
    """The house of the application that got this request."""
    house: House = request.app.state.house
    return house


TheHouse = Annotated[House, Depends(the_house)]
