"""The runs in progress: how many may be, and how to stop them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tokenscope.errors import BusyError, NotFound

MOST_RUNS = 8
RETRY_AFTER = 5


class Stoppable(Protocol):
    """What this registry needs of a run."""

    id: str
    node: str

    def cancel(self) -> None:
        """End within one step."""


class Live:
    """At most ``most`` runs at once, taking turns at the model; one more is refused (503)."""

    def __init__(self, most: int = MOST_RUNS) -> None:
        self.most = most
        self._taken = 0
        self._runs: dict[str, Stoppable] = {}
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """A place for one run. Given back at the end of the block, or, once a run was put in,
        at the end of that run. Raises BusyError when all are taken."""
        with self._changed:
            if self._closed:
                raise BusyError("the server is stopping", RETRY_AFTER)
            if self._taken >= self.most:
                raise BusyError(f"{self.most} runs are in progress; try again later", RETRY_AFTER)
            self._taken += 1
        slot = Slot(self)
        try:
            yield slot
        finally:
            if slot.run is None:
                self._release(None)

    def cancel(self, run: str) -> None:
        """Stop a run. Raises NotFound when it is not in progress (any more)."""
        with self._changed:
            found = self._runs.get(run)
        if found is None:
            raise NotFound("no such run in progress")
        found.cancel()

    def cancel_node(self, node: str) -> None:
        """Stop the run that writes this branch, if one does."""
        with self._changed:
            found = [r for r in self._runs.values() if r.node == node]
        for run in found:
            run.cancel()

    def close(self, timeout: float = 10.0) -> bool:
        """Stop all runs, take no more, wait until they have kept what they wrote."""
        self.stop()
        with self._changed:
            return self._changed.wait_for(lambda: self._taken == 0, timeout)

    def stop(self) -> None:
        """Stop all runs and take no more; does not wait."""
        with self._changed:
            self._closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.cancel()

    @property
    def count(self) -> int:
        """How many places are taken."""
        with self._changed:
            return self._taken

    def _enter(self, run: Stoppable) -> None:
        with self._changed:
            self._runs[run.id] = run
            closed = self._closed
        if closed:
            run.cancel()

    def _release(self, run: Stoppable | None) -> None:
        with self._changed:
            if run is not None:
                del self._runs[run.id]
            self._taken -= 1
            self._changed.notify_all()


class Slot:
    """A place that one run may take."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.run: Stoppable | None = None

    def take(self, run: Stoppable) -> None:
        """Put the run in; from now on the place is the run's."""
        self.run = run
        self._live._enter(run)

    def release(self) -> None:
        """The run is over."""
        self._live._release(self.run)
