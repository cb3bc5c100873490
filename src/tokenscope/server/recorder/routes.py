"""``/v1``: models, completions and chat completions, as OpenAI's clients ask for them."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response

from tokenscope.errors import TokenScopeError
from tokenscope.server.house import House, TheHouse
from tokenscope.server.leaving import Left
from tokenscope.server.recorder import request as asked
from tokenscope.server.recorder import shapes
from tokenscope.server.recorder.answer import Choice, all_of
from tokenscope.server.recorder.calls import Call
from tokenscope.server.recorder.state import Recorder
from tokenscope.server.recorder.text import Sent
from tokenscope.server.recorder.wire import Asked, ChatRequest, CompletionRequest
from tokenscope.server.recorder.work import Wanted
from tokenscope.server.stream import gone, while_read

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1")
Client = Annotated[str, Header(alias="user-agent", max_length=400)]
Shape = Callable[[int, Sent, str | None], dict[str, Any]]


@router.get("/models")
def models_route(house: TheHouse) -> dict[str, Any]:
    """The models that are loaded."""
    return {"object": "list", "data": [_model(o.id) for o in house.models.all()
                                       if o.model is not None]}  # fmt: skip


@router.get("/models/{name}")
def model_route(name: str, house: TheHouse) -> dict[str, Any]:
    """One of them."""
    return _model(asked.model_id(house, name))


@router.post("/completions")
async def completions_route(
    body: CompletionRequest, request: Request, house: TheHouse, user_agent: Client = ""
) -> Response:
    """Continue a prompt, or fill the gap before a suffix."""
    recorder = _recorder(house)
    wanted = asked.completions(house, recorder, body, user_agent)
    k, echo = body.logprobs or 0, bool(body.echo)

    def shape(n: int, sent: Sent, finish: str | None) -> dict[str, Any]:
        held = None if body.logprobs is None else shapes.legacy_logprobs(sent.words)
        return {"index": n, "text": sent.text, "logprobs": held, "finish_reason": finish}

    frame = Frame("cmpl", "text_completion", "text_completion", _name(house, body), shape, shape)
    return await _answer(request, house, recorder, body, frame, wanted, k, echo)


@router.post("/chat/completions")
async def chat_route(
    body: ChatRequest, request: Request, house: TheHouse, user_agent: Client = ""
) -> Response:
    """Answer messages."""
    recorder = _recorder(house)
    wanted = asked.chats(house, recorder, body, user_agent)
    begun: set[int] = set()

    def logprobs(sent: Sent) -> dict[str, Any] | None:
        return shapes.chat_logprobs(sent.words) if body.logprobs else None

    def message(n: int, sent: Sent, finish: str | None) -> dict[str, Any]:
        said = {"role": "assistant", "content": sent.text, "refusal": None}
        return {"index": n, "message": said, "logprobs": logprobs(sent), "finish_reason": finish}

    def delta(n: int, sent: Sent, finish: str | None) -> dict[str, Any]:
        part: dict[str, Any] = {} if n in begun else {"role": "assistant"}
        begun.add(n)
        if finish is None:
            part["content"] = sent.text
        return {"index": n, "delta": part, "logprobs": logprobs(sent) if sent else None,
                "finish_reason": finish}  # fmt: skip

    name = _name(house, body)
    frame = Frame("chatcmpl", "chat.completion", "chat.completion.chunk", name, message, delta)
    return await _answer(request, house, recorder, body, frame, wanted, body.top_logprobs or 0)


@dataclass(frozen=True)
class Frame:
    """One request's frame: ids, names, and how a choice is written whole and in parts."""

    prefix: str
    object: str
    chunk: str
    model: str
    whole: Shape
    part: Shape

    def around(self, streamed: bool) -> dict[str, Any]:
        """What stands around choices."""
        return {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "object": self.chunk if streamed else self.object, "created": int(time.time()),
            "model": self.model,
        }  # fmt: skip


async def _answer(
    request: Request, house: House, recorder: Recorder, body: Asked, frame: Frame,
    wanted: list[Wanted], k: int, echo: bool = False,
) -> Response:  # fmt: skip
    recorder.admit()
    choices = [Choice(house, recorder, w, asked.stops(body), k, echo) for w in wanted]
    kind: Literal["chat", "completion"] = "chat" if isinstance(body, ChatRequest) else "completion"
    kept = recorder.calls.begin(
        request.headers.get("user-agent", ""), kind, frame.model, bool(body.stream), choices
    )
    if body.stream:
        told = bool(body.stream_options and body.stream_options.include_usage)
        parts = Chunks(frame, choices, told)
        try:
            await parts.first()  # what is refused is refused with a status
        except BaseException as error:
            kept.end(error)
            raise
        return Streamed(parts, kept)
    leaving = asyncio.ensure_future(gone(request.receive))
    try:
        found = await all_of(choices, leaving)
        kept.end(left=found is None)
    except BaseException as error:
        kept.end(error)
        raise
    finally:
        leaving.cancel()
    if found is None:
        raise Left
    rows = [
        frame.whole(n, s, c.finish) for n, (s, c) in enumerate(zip(found, choices, strict=True))
    ]
    whole = {**frame.around(False), "choices": rows, "usage": _usage(choices)}
    return Response(json.dumps(whole), media_type="application/json")


class Chunks:
    """The events of a streamed answer, choice after choice as they come."""

    def __init__(self, frame: Frame, choices: list[Choice], told: bool) -> None:
        self._shape, self._choices, self._told = frame, choices, told
        self._frame = frame.around(True)
        self._items = self._all()
        self._held: bytes | None = None
        self.over = False
        self.error: Exception | None = None

    async def first(self) -> None:
        """Wait for the first event. Raises what the run refuses."""
        self._held = await anext(self._items, None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._held is not None:
            yield self._held
        try:
            async for item in self._items:
                yield item
        except TokenScopeError as error:
            self.error = error
            yield _event(shapes.error_body(error.status, error.code, str(error)))
        except Exception as error:
            self.error = error
            log.exception("a completion failed")
            yield _event(shapes.error_body(500, "internal", "the server's log says why"))
        self.over = True
        yield b"data: [DONE]\n\n"

    async def close(self) -> None:
        """Nobody reads on: what still runs ends within a step."""
        await self._items.aclose()

    async def _all(self) -> AsyncGenerator[bytes]:
        for n, choice in enumerate(self._choices):
            parts = choice.parts()
            try:
                async for sent in parts:
                    yield self._choice(self._shape.part(n, sent, None))
            finally:
                await parts.aclose()
            yield self._choice(self._shape.part(n, Sent(), choice.finish or "stop"))
        if self._told:
            yield _event({**self._frame, "choices": [], "usage": _usage(self._choices)})

    def _choice(self, row: dict[str, Any]) -> bytes:
        return _event({**self._frame, "choices": [row], **({"usage": None} if self._told else {})})


class Streamed(Response):
    """Server-sent events, until there are no more or the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, parts: Chunks, kept: Call) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"
        self._parts, self._kept = parts, kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_read(self._send(send), receive)
        finally:
            await self._parts.close()
            self._kept.end(self._parts.error, left=not self._parts.over)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for item in self._parts:
            await send({"type": "http.response.body", "body": item, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _recorder(house: House) -> Recorder:
    assert house.recorder is not None  # its routes are not there otherwise
    return house.recorder


def _name(house: House, body: Asked) -> str:
    return asked.model_id(house, body.model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tokenscope"}


def _usage(choices: list[Choice]) -> dict[str, int]:
    prompt = max((c.counts.prompt for c in choices), default=0)
    return shapes.usage(prompt, sum(c.counts.made for c in choices))


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
