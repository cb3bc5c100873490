"""Long answers to a GET: in a place, in a thread, given up when the reader leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread
from fastapi import Response

from tokenscope.control import Cancelled, Control
from tokenscope.server.stream import gone

if TYPE_CHECKING:
    from fastapi import Request

    from tokenscope.server.house import House

T = TypeVar("T")
LEFT = 499  # what proxies log when the reader closed first; nobody gets it


class Left(Exception):
    """The reader has gone; there is nobody to answer."""


async def worked(request: Request, house: House, work: Callable[[Control], T]) -> T:
    """``work(control)`` in a thread, while the reader stays. Takes one of the house's places.

    The place is free again when the work has come to its next question to ``control``.
    Raises BusyError, what the work raises, and Left.
    """
    stop = threading.Event()
    leaving = asyncio.ensure_future(gone(request.receive))
    leaving.add_done_callback(lambda task: None if task.cancelled() else stop.set())

    def placed() -> T:
        with house.jobs.place():
            return work(Control(cancelled=lambda: stop.is_set() or house.jobs.closed))

    try:
        return await anyio.to_thread.run_sync(placed)
    except Cancelled:
        raise Left from None
    finally:
        leaving.cancel()


def left(_: Request, __: Exception) -> Response:
    """The answer to nobody."""
    return Response(status_code=LEFT)
