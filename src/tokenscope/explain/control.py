"""Progress and cancel: what a long computation asks between two pieces of work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Cancelled(Exception):
    """The caller asked to stop. Not an error of the user's: faces end the job quietly."""


def _quiet(done: int, total: int, what: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Control:
    """``progress(done, total, what)`` is told, ``cancelled()`` is asked, between pieces."""

    progress: Callable[[int, int, str], None] = _quiet
    cancelled: Callable[[], bool] = lambda: False

    def step(self, done: int, total: int, what: str) -> None:
        """Report ``done`` of ``total`` pieces. Raises Cancelled."""
        if self.cancelled():
            raise Cancelled(what)
        self.progress(done, total, what)


QUIET = Control()
