"""A run as server-sent events.

One thread decodes, keeps (journal) and hands over; the event loop sends. A reader that goes away,
or does not read for 15 seconds, ends the run within one step; what was decoded is kept.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Protocol

from fastapi import Response
from pydantic import BaseModel

from tokenscope.errors import TokenScopeError
from tokenscope.server import present, wire
from tokenscope.server.channel import Channel
from tokenscope.server.live import Slot
from tokenscope.store import Part, Recording, rows

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tokenscope.runs.generate import Run

log = logging.getLogger(__name__)
SEND_TIMEOUT = 15.0
HEARTBEAT = 10.0
PING = b": ping\n\n"


class Writer:
    """One run on its way to the store and to a channel."""

    def __init__(self, run: Run, recording: Recording, slot: Slot, from_parent: bool) -> None:
        self.id = rows.new_id()
        self.node = recording.node.id
        self.channel = Channel()
        self._run = run
        self._recording = recording
        self._slot = slot
        self._from_parent = from_parent
        self._known: set[int] = set()
        slot.take(self)

    def cancel(self) -> None:
        """End within one step."""
        self._run.cancel()

    def write(self) -> None:
        """The thread: from the first event to the last. Never raises."""
        try:
            self._say(self._begin())
            self._decode()
            trace = self._run.trace
            row = self._recording.finish(trace, trace.finish)
            self._say(wire.EndEvent(type="end", finish=trace.finish, node=present.node(row)))
        except TokenScopeError as error:
            self._fail(error.code, str(error))
        except BaseException:  # a tokenizer may raise what is no Exception
            log.exception("run %s failed", self.id)
            self._fail("internal", "the run failed; the server's log says why")
        finally:
            self._slot.release()
            self.channel.end()

    def _begin(self) -> wire.StartEvent:
        shared = self._run.shared
        return wire.StartEvent(
            type="start", run=self.id, node=present.node(self._recording.node),
            shared=len(shared) if shared is not None and self._from_parent else 0,
            total=self._run.total,
        )  # fmt: skip

    def _decode(self) -> None:
        shared = self._run.shared
        if shared is not None and not self._from_parent and len(shared):
            # measured in an earlier run and used again: the page has not seen it in this branch
            values = {n: c.values for n, c in shared.columns.items()}
            self._keep(Part(
                0, shared.tokens, values, shared.alternatives, shared.attention,
                shared.n_prompt == len(shared),
                {n: c.quality for n, c in shared.columns.items()},
            ))  # fmt: skip
        for step in self._run:
            if len(step.tokens):
                self._keep(Part(
                    step.start, step.tokens, step.columns, step.alternatives, step.attention,
                    step.prompt,
                ))  # fmt: skip
            if step.progress is not None:
                done, total = step.progress
                self._say(wire.ProgressEvent(type="progress", done=done, total=total))

    def _keep(self, part: Part) -> None:
        """First written, then shown: what was shown is never lost."""
        grown = self._recording.append(part)
        self._say(step_event(part, self._known))
        if grown:
            self._say(wire.CommittedEvent(type="committed", tokens=self._recording.committed))

    def _fail(self, code: str, message: str) -> None:
        try:
            self._recording.finish(None, "error")
        except Exception:  # the disk may be what failed; the next start brings the branch back
            log.exception("branch %s could not be closed", self.node)
        self._say(wire.ErrorEvent(type="error", code=code, message=message))

    def _say(self, event: BaseModel) -> None:
        self.channel.put(b"data: " + event.model_dump_json().encode() + b"\n\n")


def step_event(part: Part, known: set[int]) -> wire.StepEvent:
    """A part as an event. ``known``: ids whose bytes the stream has sent; grows."""
    ids: list[list[int]] = [[] for _ in range(len(part.tokens))]
    logprobs: list[list[float]] = [[] for _ in range(len(part.tokens))]
    pieces: list[wire.Piece] = []
    if part.alternatives is not None:
        ids, logprobs = present.rows(part.alternatives)
        new = dict.fromkeys(i for row in ids for i in row if i not in known)
        known.update(new)
        pieces = present.pieces(part.alternatives, new)
    return wire.StepEvent(
        type="step", start=part.start, ids=part.tokens.ids.tolist(),
        bytes=list(present.encoded(part.tokens)),
        specials=[
            wire.SpecialToken(index=part.start + s.index, label=s.label)
            for s in present.specials(part.tokens)
        ],
        prompt=part.prompt,
        columns={n: present.numbers(v) for n, v in part.columns.items()},
        alternative_ids=ids, alternative_logprobs=logprobs, pieces=pieces,
    )  # fmt: skip


class Job(Protocol):
    """What an EventStream needs: a channel, a thread's work that fills it, a way to stop it."""

    id: str
    channel: Channel

    def write(self) -> None:
        """The thread: from the first event to the last. Never raises."""

    def cancel(self) -> None:
        """End soon."""


class EventStream(Response):
    """The response: starts the thread, sends what comes, notices when nobody reads."""

    media_type = "text/event-stream"

    def __init__(self, writer: Job) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        channel = self._writer.channel
        channel.bind(asyncio.get_running_loop())
        threading.Thread(
            target=self._writer.write, name=f"run-{self._writer.id}", daemon=True
        ).start()
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:
            log.warning("run %s: the reader stalled for %.0f s", self._writer.id, SEND_TIMEOUT)
        except OSError:
            pass  # the connection went away while sending
        finally:
            # a run that has ended does not mind being cancelled
            self._writer.cancel()
            channel.drop()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while (chunk := await self._writer.channel.take(HEARTBEAT)) is not None:
            await _body(send, chunk or PING, more=True)
        await _body(send, b"", more=False)


async def _body(send: Send, chunk: bytes, more: bool) -> None:
    message = {"type": "http.response.body", "body": chunk, "more_body": more}
    await asyncio.wait_for(send(message), SEND_TIMEOUT)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
