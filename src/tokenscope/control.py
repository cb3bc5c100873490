"""Progress and cancel: the one thing that everything long can be watched and stopped by."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

Progress = Callable[[int, int, str], None]


class Cancelled(Exception):
    """The caller asked to stop. Not an error of the user's: faces end the job quietly."""


def _quiet(done: int, total: int, what: str) -> None:
    return None


class Control:
    """``progress(done, total, what)`` is told between two pieces of work; ``cancel`` ends it.

    ``cancelled``: a question of the caller's own that also ends it when it answers True.
    """

    __slots__ = ("_asked", "_stop", "progress")

    def __init__(
        self, progress: Progress = _quiet, cancelled: Callable[[], bool] | None = None
    ) -> None:
        self.progress = progress
        self._asked = cancelled
        self._stop = Event()

    def cancel(self) -> None:
        """End before the next piece of work. From any thread; more than once does no harm."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set() or (self._asked is not None and self._asked())

    def step(self, done: int, total: int, what: str) -> None:
        """Report ``done`` of ``total`` pieces. Raises Cancelled."""
        if self.cancelled:
            raise Cancelled(what)
        self.progress(done, total, what)


QUIET = Control()  # the default of what is neither watched nor stopped: nobody cancels it
