"""The routes that decode: each answers with a stream of events."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from tokenscope.errors import InputError
from tokenscope.runs.generate import Run, Settings, fork, generate, score
from tokenscope.server import wire
from tokenscope.server.house import House, TheHouse
from tokenscope.server.live import Slot
from tokenscope.server.stream import EventStream, Writer

router = APIRouter(prefix="/api")
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the data of each is one StreamEvent.",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/StreamEvent"}}},
    }
}


@router.post("/sessions/{session}/generate", response_class=Response, responses=EVENTS)
def generate_route(session: str, body: wire.GenerateRequest, house: TheHouse) -> EventStream:
    """A new root branch."""
    house.store.session(session)
    if (body.prompt is None) == (body.messages is None):
        raise InputError("prompt", "give exactly one of prompt and messages")
    if body.messages is not None and body.suffix is not None:
        raise InputError("suffix", "goes with a prompt, not with messages")
    with house.live.slot() as slot:
        run = generate(
            house.model,
            prompt=body.prompt,
            suffix=body.suffix,
            messages=None if body.messages is None else [m.model_dump() for m in body.messages],
            language=body.language,
            settings=settings(body.settings),
        )
        return _stream(house, slot, run, session)


@router.post("/sessions/{session}/score", response_class=Response, responses=EVENTS)
def score_route(session: str, body: wire.ScoreRequest, house: TheHouse) -> EventStream:
    """A new root branch that holds measured text, nothing generated."""
    house.store.session(session)
    with house.live.slot() as slot:
        run = score(house.model, body.text, language=body.language, alternatives=body.alternatives)
        return _stream(house, slot, run, session)


@router.post("/nodes/{node}/fork", response_class=Response, responses=EVENTS)
def fork_route(node: str, body: wire.ForkRequest, house: TheHouse) -> EventStream:
    """A branch that differs from its parent at one token."""
    given = [v for v in (body.token_id, body.token_ids, body.text) if v is not None]
    if len(given) != 1:
        raise InputError("token_id", "give exactly one of token_id, token_ids and text")
    parent = house.store.node(node)
    with house.live.slot() as slot:
        trace = house.store.trace(node)
        if body.at > len(trace):
            raise InputError("at", f"must lie in 0..{len(trace)}")
        run = fork(house.model, trace, body.at, given[0], settings(body.settings))
        return _stream(house, slot, run, parent.session, parent.id, body.at)


@router.post("/runs/{run}/cancel", status_code=204)
def cancel(run: str, house: TheHouse) -> None:
    """Stop a run within one step; what it wrote is kept."""
    house.live.cancel(run)


def _stream(
    house: House, slot: Slot, run: Run, session: str, parent: str | None = None, at: int = 0
) -> EventStream:
    """Open the branch that the run will write, and the stream that shows it."""
    shared = run.shared
    # a run may also share what another branch measured; the page has only the parent's numbers
    from_parent = parent is not None and shared is not None and len(shared) == at
    empty = run.trace
    recording = house.store.begin(
        session, empty.origin, form=empty.origin.form, language=empty.language, parent=parent,
        at=at, shared=shared if from_parent else None,
    )  # fmt: skip
    return EventStream(Writer(run, recording, slot, from_parent))


def settings(body: wire.Settings) -> Settings:
    """The wire's settings as those of the engine."""
    return Settings(**{**body.model_dump(), "stop": tuple(body.stop)})
