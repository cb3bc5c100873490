"""Taking turns at one model, first come first served, a step at a time."""

from __future__ import annotations

from collections import deque
from threading import Event, Lock
from types import TracebackType


class Turns:
    """A fair lock: with two runs at once each gets every other step (a plain Lock starves one)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[Event] = deque()
        self._taken = False

    def __enter__(self) -> Turns:
        with self._lock:
            if not self._taken:
                self._taken = True
                return self
            mine = Event()
            self._waiting.append(mine)
        mine.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # stays taken: handed over
            else:
                self._taken = False
