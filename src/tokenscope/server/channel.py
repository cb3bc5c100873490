"""From a thread that makes events to the coroutine that sends them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

MOST_WAITING = 256


class Channel:
    """A bounded queue. The thread waits when the reader is slow, so that memory stays bounded;
    the coroutine takes all that waits at once, so that a fast model costs few sends."""

    def __init__(self, bound: int = MOST_WAITING) -> None:
        self._bound = bound
        self._items: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._ended = False
        self._dropped = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop whose coroutine will read."""
        self._loop = loop

    # --- the thread's side --------------------------------------------------------------------
    def put(self, item: bytes) -> None:
        """Hand over one item. Waits for room; thrown away once nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._dropped or len(self._items) < self._bound)
            if self._dropped:
                return
            self._items.append(item)
        self._wake()

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)

    # --- the coroutine's side -----------------------------------------------------------------
    async def take(self, timeout: float) -> bytes | None:
        """Everything that waits, joined; b"" after ``timeout`` without any; None at the end."""
        while True:
            self._arrived.clear()
            with self._changed:
                if self._items:
                    joined = b"".join(self._items)
                    self._items.clear()
                    self._changed.notify_all()
                    return joined
                if self._ended:
                    return None
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout)
            except TimeoutError:
                return b""

    def drop(self) -> None:
        """Nobody reads any more: the thread shall not wait."""
        with self._changed:
            self._dropped = True
            self._items.clear()
            self._changed.notify_all()
