"""The recorder's state: who is let in, how many at once, and where what they ask for is kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio

from tokenscope.errors import BusyError
from tokenscope.server.recorder.calls import Calls, product
from tokenscope.server.recorder.redact import Redaction
from tokenscope.store import Store
from tokenscope.store.rows import now
from tokenscope.trace.edits import Edit

BRANCHES = 500  # of a session; then the next one begins
TITLE = "Recorder: "  # a session that is renamed is no longer the recorder's to forget


class RateError(BusyError):
    """More was asked for than the recorder takes."""

    code = "rate_limit_exceeded"
    status = 429


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """``rate``: requests a minute; ``waiting``: those that may wait for a place; ``seconds``: the
    longest that one waits; ``tokens``: the most that a completion may have."""

    rate: int = 600
    waiting: int = 256
    seconds: float = 120.0
    tokens: int = 4096


class Recorder:
    """One per server. ``places``: completions that run at once, the page keeps the rest.

    ``redaction``: what no record may hold. ``keep``: days that sessions are kept, 0 for ever.
    ``edits``: in force for every completion.
    """

    def __init__(
        self, limits: RecorderLimits = RecorderLimits(), places: int = 6,
        redaction: Redaction | None = None, keep: float = 0.0, edits: Sequence[Edit] = (),
    ) -> None:  # fmt: skip
        self.limits = limits
        self.redaction = redaction
        self.keep = keep
        self.edits = tuple(edits)
        self.paused = False
        self.requests = self.recorded = self.refused = 0
        self.calls = Calls()
        self._places = places
        self.threads = anyio.CapacityLimiter(places)
        self._turns: asyncio.Semaphore | None = None
        self._waiting = 0
        self._times: deque[float] = deque()
        self._sessions: dict[str, tuple[str, int]] = {}  # title -> session, branches
        self._guard = threading.Lock()

    def admit(self) -> None:
        """Count a request. Raises RateError."""
        moment = time.monotonic()
        with self._guard:
            while self._times and moment - self._times[0] > 60.0:
                self._times.popleft()
            if len(self._times) >= self.limits.rate:
                self.refused += 1
                left = int(60.0 - (moment - self._times[0])) + 1
                raise RateError(f"more than {self.limits.rate} requests in a minute", left)
            self._times.append(moment)
            self.requests += 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place. Raises RateError where too many wait, or it takes too long."""
        if self._turns is None:
            self._turns = asyncio.Semaphore(self._places)
        if self._waiting >= self.limits.waiting:
            self.refused += 1
            raise RateError(f"{self.limits.waiting} requests are waiting already", 5)
        self._waiting += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                await self._turns.acquire()
        except TimeoutError:
            self.refused += 1
            raise RateError("no place became free in time", 5) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    def forget(self, store: Store) -> int:
        """Remove for good the sessions that have not changed for ``keep`` days. How many."""
        if not self.keep:
            return 0
        before = now(timedelta(days=self.keep))
        old = [s for s in store.sessions() if s.title.startswith(TITLE) and s.updated < before]
        for session in old:
            store.forget_session(session.id)
        return len(old)

    def session(self, store: Store, client: str) -> str:
        """The session of a client and day, made when there is none; ``client``: its User-Agent."""
        title = f"{TITLE}{product(client)}, {datetime.now(UTC):%Y-%m-%d}"
        with self._guard:
            held = self._sessions.get(title)
            if held is None:
                kept = [s for s in store.sessions() if s.title == title]
                held = (kept[0].id, kept[0].branches) if kept else None
            alive = held is not None and any(s.id == held[0] for s in store.sessions())
            if held is None or held[1] >= BRANCHES or not alive:
                self.forget(store)
                held = (store.new_session(title).id, 0)
            self._sessions[title] = (held[0], held[1] + 1)
            self.recorded += 1
            return held[0]
