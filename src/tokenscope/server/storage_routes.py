"""What is deleted but still kept, and the button that removes it for good."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter

from tokenscope import disk
from tokenscope.server.house import TheHouse
from tokenscope.server.wire import Response
from tokenscope.store import RETENTION

router = APIRouter(prefix="/api")


class StorageInfo(Response):
    """``deleted_*``: what a purge would remove for good, ``deleted_bytes``: what it would free.

    ``free_bytes`` of the disk (None: unknown); ``retention_days``: when it goes by itself.
    """

    free_bytes: int | None
    deleted_sessions: int
    deleted_branches: int
    deleted_bytes: int
    retention_days: int


@router.get("/storage")
def storage(house: TheHouse) -> StorageInfo:
    """What lies in the bin."""
    would = house.store.purge(timedelta(0), dry_run=True)
    return StorageInfo(
        free_bytes=disk.free(house.store.path), deleted_sessions=would.sessions,
        deleted_branches=would.branches, deleted_bytes=would.bytes,
        retention_days=RETENTION.days,
    )  # fmt: skip


@router.post("/storage/purge")
def purge(house: TheHouse) -> StorageInfo:
    """Remove for good everything that is deleted; answers with what is left."""
    house.store.purge(timedelta(0))
    house.books.settle(house.store)
    return storage(house)
