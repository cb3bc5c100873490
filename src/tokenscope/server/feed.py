"""What the jobs tell, in one order for all of them, kept for readers who come late or come back.

Every event gets the next number of the server; on the wire its id is ``<server>-<number>``, where
the first part is drawn anew at each start. A reader who has seen number n gets what has a larger
one, so nothing is lost, doubled or turned round. Each job keeps a bounded log; what fell out of it
is made again from the trace (see Gap).
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LOG_BYTES = 512 << 10
GAP_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it goes out. ``tokens``: how many the branch has after it."""

    number: int
    tokens: int
    data: bytes
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Tokens ``start..end-1`` of a branch, whose events fell out of the log; ``number``: the last
    of them."""

    number: int
    start: int
    end: int


class Log:
    """The events of one job: the first one for good, the last ones under a byte budget.

    Not locked: the feed is.
    """

    def __init__(self) -> None:
        self._budget = LOG_BYTES
        self._first: Entry | None = None
        self._last: deque[Entry] = deque()
        self._size = 0
        self._gone_number = array("q")
        self._gone_tokens = array("q")

    def add(self, entry: Entry) -> None:
        """One more. An event that only passes (progress) takes the place of one before it."""
        if self._first is None:
            self._first = entry
            return
        if entry.passing and self._last and self._last[-1].passing:
            self._size -= len(self._last.pop().data)
        self._last.append(entry)
        self._size += len(entry.data)
        while self._size > self._budget and len(self._last) > 1:
            self._drop(self._last.popleft())

    def _drop(self, entry: Entry) -> None:
        self._size -= len(entry.data)
        if not entry.passing:
            self._gone_number.append(entry.number)
            self._gone_tokens.append(entry.tokens)

    def since(self, number: int, split: int) -> list[Entry | Gap]:
        """What has a larger number, in order. ``split``: no gap crosses this token."""
        out: list[Entry | Gap] = []
        for entry in reversed(self._last):
            if entry.number <= number:
                break
            out.append(entry)
        out.reverse()
        gone = bisect_right(self._gone_number, number)
        if gone < len(self._gone_number):
            out[:0] = self._gaps(gone, split)
        if self._first is not None and self._first.number > number:
            out.insert(0, self._first)
        return out

    def _gaps(self, gone: int, split: int) -> list[Entry | Gap]:
        """Gaps end where an event ended, so that each has a number of its own."""
        assert self._first is not None
        at = self._gone_tokens[gone - 1] if gone else self._first.tokens
        end = self._gone_tokens[-1]
        out: list[Entry | Gap] = []
        while at < end:
            upto = split if at < split < end else end
            upto = min(upto, at + GAP_TOKENS)
            i = bisect_left(self._gone_tokens, upto, gone)
            out.append(Gap(self._gone_number[i], at, self._gone_tokens[i]))
            at = self._gone_tokens[i]
        return out


class Listener:
    """A coroutine that waits for events of some jobs."""

    def __init__(self, wants: Callable[[str, str], bool]) -> None:
        self.wants = wants
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._called = False

    def call(self) -> None:
        """From any thread: something has come. Many calls are one wake-up."""
        if not self._called and not self._loop.is_closed():
            self._called = True
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def wait(self, seconds: float) -> bool:
        """Wait for a call. False when none came in time."""
        try:
            # not wait_for: up to Python 3.11 it swallows a cancel that comes with the call, and a
            # reader who has left would be listened for without end
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return False
        self._arrived.clear()
        self._called = False
        return True


class Feed:
    """Numbers events and tells listeners."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self._number = 0
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()

    def publish(
        self, log: Log, run: str, session: str, body: bytes, tokens: int = 0, passing: bool = False
    ) -> None:
        """Put one event into the log of its job and wake who waits for it."""
        with self._lock:
            self._number += 1
            head = f"id: {self.epoch}-{self._number}\ndata: ".encode()
            log.add(Entry(self._number, tokens, b"%b%b\n\n" % (head, body), passing))
            for listener in self._listeners:
                if listener.wants(run, session):
                    listener.call()

    def numbered(self, number: int, body: bytes) -> bytes:
        """An event that was made again, under the number that it had."""
        return f"id: {self.epoch}-{number}\ndata: ".encode() + body + b"\n\n"

    def since(self, number: int, log: Log, split: int) -> list[Entry | Gap]:
        """See Log; under the lock."""
        with self._lock:
            return log.since(number, split)

    @property
    def now(self) -> int:
        """The number of the last event."""
        with self._lock:
            return self._number

    def number_of(self, said: str) -> int | None:
        """The number in an id, None when it is not one that this server has given."""
        epoch, _, digits = said.partition("-")
        if epoch != self.epoch or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            return None
        number = int(digits)
        return number if number <= self.now else None

    def join(self, listener: Listener) -> None:
        """Tell this one, too."""
        with self._lock:
            self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Tell it no more."""
        with self._lock:
            self._listeners.discard(listener)

    def watched(self, run: str, session: str) -> bool:
        """Whether anybody listens to this job."""
        with self._lock:
            return any(one.wants(run, session) for one in self._listeners)

    def call(self, listeners: Iterable[Listener] | None = None) -> None:
        """Wake everybody, for instance because the server stops."""
        with self._lock:
            for listener in listeners if listeners is not None else self._listeners:
                listener.call()
