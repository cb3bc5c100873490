"""What a client asked for as runs: prompts, settings, and what is refused as nothing does it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from tokenscope.errors import InputError, NotFound
from tokenscope.runs.generate import begin, generate
from tokenscope.runs.run import Run
from tokenscope.server import wire
from tokenscope.server.decoding import settings as of_wire
from tokenscope.server.edit_wire import AnyEdit
from tokenscope.server.house import House
from tokenscope.server.recorder.state import Recorder
from tokenscope.server.recorder.wire import (
    Asked,
    ChatRequest,
    CompletionRequest,
    ResponseFormat,
)
from tokenscope.server.recorder.work import Wanted
from tokenscope.trace.edits import Ban, Bias, Edit, read
from tokenscope.trace.origin import Request
from tokenscope.trace.tokens import Tokens

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

COMPLETION_TOKENS, CHAT_TOKENS = 16, 1024  # where a client does not say
CANDIDATES = 10
SHAPES: TypeAdapter[list[AnyEdit]] = TypeAdapter(list[AnyEdit])
NAMES = ("", "tokenscope", "default")


def model_id(house: House, name: str) -> str:
    """The id of the model that is meant. Raises NotFound, which lists none."""
    offers = house.models.all()
    for offer in offers:
        if name == offer.id or (offer.model is not None and name == offer.model.info.name):
            return offer.id
    if name in NAMES:
        return next((o.id for o in offers if o.model is not None), offers[0].id)
    raise NotFound("no such model here; GET /v1/models lists those there are")


def completions(
    house: House, recorder: Recorder, body: CompletionRequest, client: str
) -> list[Wanted]:
    """The runs of a completion request: ``n`` for each prompt."""
    if body.best_of not in (None, body.n or 1):
        raise InputError("best_of", "is not done; ask for n")
    prompts = _prompts(body.prompt)
    if body.suffix is not None and (body.echo or not all(isinstance(p, str) for p in prompts)):
        raise InputError("suffix", "goes with a text, without echo")
    asked = body.max_tokens if body.max_tokens is not None else COMPLETION_TOKENS
    if asked == 0 and not body.echo:
        raise InputError("max_tokens", "must be 1 or more, unless the prompt is echoed")
    return [
        _completion(house, recorder, body, prompt, i, asked, client)
        for prompt in prompts for i in range(body.n or 1)
    ]  # fmt: skip


def _completion(
    house: House, recorder: Recorder, body: CompletionRequest, prompt: str | Sequence[int],
    number: int, asked: int, client: str,
) -> Wanted:  # fmt: skip
    text = prompt if isinstance(prompt, str) else None
    keep = _settings(recorder, body, number, asked, body.logprobs or 0)
    request = wire.GenerateRequest(
        prompt=text if text is not None else "", suffix=body.suffix,
        model=model_id(house, body.model), settings=keep,
    )  # fmt: skip

    def start(model: Model) -> Run:
        if text is not None:
            return generate(model, prompt=text, suffix=body.suffix, settings=of_wire(keep))
        given = _tokens(model, prompt)  # type: ignore[arg-type]
        return begin(model, given, "plain", of_wire(keep), request=Request(prompt=given.text))

    return Wanted(start, request, client)


def chats(house: House, recorder: Recorder, body: ChatRequest, client: str) -> list[Wanted]:
    """The runs of a chat request: ``n`` of them."""
    if body.tools and body.tool_choice != "none":
        raise InputError("tools", "cannot be called here; ask without them")
    if body.top_logprobs and not body.logprobs:
        raise InputError("top_logprobs", "goes with logprobs")
    messages = [m.plain() for m in body.messages]
    asked = next(
        (n for n in (body.max_completion_tokens, body.max_tokens) if n is not None), CHAT_TOKENS
    )
    if asked == 0:
        raise InputError("max_tokens", "must be 1 or more")
    out = []
    for number in range(body.n or 1):
        keep = _settings(recorder, body, number, asked, body.top_logprobs or 0)
        request = wire.GenerateRequest(
            messages=[wire.Message(**m) for m in messages], model=model_id(house, body.model),
            settings=keep,
        )  # fmt: skip

        def start(model: Model, keep: wire.Settings = keep) -> Run:
            return generate(model, messages=messages, settings=of_wire(keep))

        out.append(Wanted(start, request, client))
    return out


def stops(body: Asked) -> list[str]:
    """The stop strings."""
    return [body.stop] if isinstance(body.stop, str) else list(body.stop or ())


def _prompts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [given]
    return list(given)  # type: ignore[arg-type]


def _settings(recorder: Recorder, body: Asked, number: int, asked: int, top: int) -> wire.Settings:
    """Settings of the wire; a bias, a format and the recorder's own edits are edits."""
    if body.presence_penalty or body.frequency_penalty:
        raise InputError("presence_penalty", "is not done here; repetition_penalty is")
    seed = body.seed if body.seed is not None else secrets.randbelow(1 << 32)
    edits = [*recorder.edits, *_bias(body.logit_bias or {}), *_format(body.response_format)]
    return wire.Settings(
        max_new_tokens=min(asked, recorder.limits.tokens),
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=body.top_k or 0, top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0, repetition_penalty=body.repetition_penalty or 1.0,
        seed=(seed + number) % (1 << 53), stop=stops(body), alternatives=max(CANDIDATES, top),
        edits=SHAPES.validate_json(json.dumps([e.to_json() for e in edits])),
    )  # fmt: skip


def _format(wanted: ResponseFormat | None) -> tuple[Edit, ...]:
    """A response format as the edit that keeps to it."""
    if wanted is None or wanted.type == "text":
        return ()
    schema: object = {"type": "object"}
    if wanted.type == "json_schema":
        if wanted.json_schema is None:
            raise InputError("response_format", "has no json_schema")
        schema = wanted.json_schema.json_schema
    return (read({"kind": "json_schema", "schema": json.dumps(schema)}),)


def _bias(given: dict[str, float]) -> tuple[Edit, ...]:
    """OpenAI's logit bias: nats added to the logit of an id; -100 and below bans it."""
    if len(given) > 1000:
        raise InputError("logit_bias", "holds more than 1000 tokens")
    edits: list[Edit] = []
    for name, amount in given.items():
        if not name.isdecimal() or len(name) > 9:
            raise InputError("logit_bias", "its names must be token ids")
        edits.append(Ban((int(name),)) if amount <= -100 else Bias((int(name),), float(amount)))
    return tuple(edits)


def _tokens(model: Model, ids: Sequence[int]) -> Tokens:
    words = model.vocabulary
    labels = {n: s for n, s in enumerate(map(words.label, ids)) if s is not None}
    return Tokens.of(list(ids), [words.piece(i) for i in ids], labels)
