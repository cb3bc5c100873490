"""One connection of a client that may be slow, or worse.

uvicorn waits for ever for the end of a header, and for ever for a reader to read. Here a header
has 20 seconds, and a reader that takes no byte for 15 seconds while some wait is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)
HEADER_TIMEOUT = 20.0
READ_TIMEOUT = 15.0
LOOK_EVERY = 1.0
SEND_BUFFER = 128 << 10  # bytes that the kernel holds for one reader, instead of megabytes


class Connection(H11Protocol):
    """The HTTP protocol with two clocks, looked at once a second."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: it has to say what it wants."""
        super().connection_made(transport)
        held = transport.get_extra_info("socket")
        if held is not None and held.family in (socket.AF_INET, socket.AF_INET6):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._asked: float | None = self.loop.time()  # since when a header is owed
        self._moved = self.loop.time()
        self._given = self._sent = 0
        write = transport.write

        def counted(data: bytes) -> None:
            self._given += len(data)
            write(data)

        transport.write = counted  # type: ignore[method-assign, assignment]
        self._look: asyncio.TimerHandle | None = self.loop.call_later(LOOK_EVERY, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request: the clock of its header runs from the first of them."""
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        if not idle or (self.cycle is not None and not self.conn.trailing_data[0]):
            self._asked = None
        elif self._asked is None:
            self._asked = self.loop.time()

    def _watch(self) -> None:
        now = self.loop.time()
        waits = self.transport.get_write_buffer_size()
        if waits == 0 or self._given - waits > self._sent:
            self._moved = now
        self._sent = self._given - waits
        if self._asked is not None and now - self._asked > HEADER_TIMEOUT:
            log.info("a client took more than %.0f s to send a header", HEADER_TIMEOUT)
            self.transport.abort()
        elif now - self._moved > READ_TIMEOUT:
            log.info("a reader took nothing for %.0f s", READ_TIMEOUT)
            self.transport.abort()
        else:
            self._look = self.loop.call_later(LOOK_EVERY, self._watch)
