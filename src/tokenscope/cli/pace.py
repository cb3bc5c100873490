"""How far something long is, at which rate, and how long it still takes: lines on stderr."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

FIRST_S = 1.0  # what is over sooner is not reported
EVERY_S = 1.0  # in a terminal, where a line replaces the last; elsewhere ten times as long


class Pace:
    """Hand :meth:`told` to a Control. Says nothing about what ends within a second."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._out = sys.stderr if out is None else out
        self._terminal = self._out.isatty()
        self._clock = clock
        self._began: tuple[float, int] | None = None
        self._what = ""
        self._next = 0.0
        self._open = False

    def told(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` (in ``what``) as of now. Another ``what``: another stage begins."""
        now = self._clock()
        if self._began is None or what != self._what:
            self._what = what
            self._began, self._next = (now, done), now + FIRST_S
        if done >= total:
            self.close()
        elif now >= self._next:
            self._next = now + EVERY_S * (1 if self._terminal else 10)
            self._show(self.line(done, total, what, now))

    def line(self, done: int, total: int, what: str, now: float) -> str:
        """``120,000 of 1,000,000 bytes · 7,100/s · 2 min left``."""
        assert self._began is not None
        began, first = self._began
        rate = (done - first) / max(now - began, 1e-9)
        left = f" · {_time((total - done) / rate)} left" if rate > 0 else ""
        return f"{done:,} of {total:,} {what} · {rate:,.0f}/s{left}"

    def close(self) -> None:
        """End the line that stands open in a terminal."""
        if self._open:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._open = False

    def _show(self, line: str) -> None:
        self._out.write(f"\r\x1b[K{line}" if self._terminal else line + "\n")
        self._out.flush()
        self._open = self._terminal


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextmanager
def waiting(what: str, out: TextIO | None = None) -> Iterator[None]:
    """Says for how long it has waited for something that cannot tell how far it is: every second
    in a terminal, every ten seconds elsewhere, nothing in the first."""
    out = sys.stderr if out is None else out
    terminal, ended, began = out.isatty(), threading.Event(), monotonic()

    def tell() -> None:
        shown = False
        while not ended.wait(EVERY_S if terminal else 10 * EVERY_S):
            line = f"{what} · {monotonic() - began:.0f} s"
            out.write(f"\r\x1b[K{line}" if terminal else line + "\n")
            out.flush()
            shown = terminal
        if shown:
            out.write("\r\x1b[K")
            out.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
