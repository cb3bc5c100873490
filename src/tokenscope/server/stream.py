"""A reader's view of jobs as server-sent events: it can be left, and joined again."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import Response

from tokenscope.errors import TokenScopeError
from tokenscope.server import wire
from tokenscope.server.feed import Gap, Listener
from tokenscope.server.jobs import Job, Jobs

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)
HEARTBEAT = 10.0
PING = b": ping\n\n"
FRAME = 0.016  # seconds between two sends: no page paints oftener, and fewer sends cost less
BATCH_BYTES = 256 << 10  # sent at once; a slow reader holds no more than this


class EventView(Response):
    """The events of the jobs named, else of a session's, else of all.

    ``seen``: the id of the last event that the reader has; it gets what came after. Without one it
    gets all events of jobs still running, and of jobs named also when they are over. A view of
    jobs that are named ends when they do, any other when the reader leaves or the server stops.
    """

    media_type = "text/event-stream"

    def __init__(self, jobs: Jobs, runs: frozenset[str], session: str, seen: str) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"
        self._jobs = jobs
        self._runs = runs
        self._session = session
        self._seen = jobs.feed.number_of(seen)
        self._cursor = self._seen or 0
        self._over: set[str] = set()  # of a new view: jobs that had ended before it began

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_read(self._send(send), receive)

    def _wants(self, run: str, session: str) -> bool:
        return run in self._runs if self._runs else session in ("", self._session)

    def _watched(self) -> list[Job]:
        held = self._jobs.watched_by(self._runs, self._session)
        return [job for job in held if job.id not in self._over]

    async def _send(self, send: Send) -> None:
        listener = Listener(self._wants)
        self._jobs.feed.join(listener)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _body(send, self._hello())
            while True:
                # asked before the events are: what ends in between is seen in the next round
                over = self._finished()
                sent = time.monotonic()
                while batch := await self._batch():
                    await _body(send, batch)
                if over:
                    break
                if not await listener.wait(HEARTBEAT):
                    await _body(send, PING)
                elif (early := FRAME - (time.monotonic() - sent)) > 0:
                    await asyncio.sleep(early)
            await _body(send, b"", more=False)
        finally:
            self._jobs.feed.leave(listener)

    def _hello(self) -> bytes:
        """The jobs of this view as they stand, so that a page knows which are over."""
        jobs = self._watched()
        if self._seen is None and not self._runs:
            self._over = {job.id for job in jobs if job.ended}
        listed = wire.HelloEvent(type="hello", jobs=[job.info() for job in jobs])
        return b"data: " + listed.model_dump_json().encode() + b"\n\n"

    def _finished(self) -> bool:
        if self._runs:
            return all(job.ended for job in self._watched())
        return self._jobs.closed and not any(not job.ended for job in self._watched())

    async def _batch(self) -> bytes:
        """The next events, at most a bounded number of bytes; b"" when there are none."""
        feed = self._jobs.feed
        now = feed.now  # a job that begins later has larger numbers
        found = [
            [(e.number, e, job) for e in feed.since(self._cursor, job.log, job.split)]
            for job in self._watched()
        ]
        parts: list[bytes] = []
        size = 0
        for number, entry, job in heapq.merge(*found, key=lambda item: item[0]):
            if number > now:
                break
            if isinstance(entry, Gap):
                # one at a time, of all readers: it takes the whole trace to make
                async with self._jobs.again:
                    data = await anyio.to_thread.run_sync(_again, self._jobs, job, entry)
            else:
                data = entry.data
            parts.append(data)
            size += len(data)
            self._cursor = number
            if size >= BATCH_BYTES:
                break
        return b"".join(parts)


def _again(jobs: Jobs, job: Job, gap: Gap) -> bytes:
    try:
        made = [job.wrapped(event) for event in job.work.again(gap)]
    except TokenScopeError as error:  # a branch that was deleted meanwhile
        log.info("run %s cannot be shown from its start: %s", job.id, error)
        return b""
    return b"".join(jobs.feed.numbered(gap.number, body) for body in made)


async def _body(send: Send, chunk: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def while_read(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Send an answer, and give it up when its reader leaves. Raises what the work raises."""
    sending = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    except OSError:
        pass  # the connection went away while sending
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def gone(receive: Receive) -> None:
    """Returns when the reader has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
