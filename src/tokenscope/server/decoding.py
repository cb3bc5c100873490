"""The routes that decode: each begins a job, whose events are read from one stream."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from tokenscope.errors import InputError
from tokenscope.runs.generate import Run, Settings, fork, generate, score
from tokenscope.server import wire
from tokenscope.server.decode_job import Decode
from tokenscope.server.house import House, TheHouse
from tokenscope.server.jobs import Kind, Place
from tokenscope.server.stream import EventView

router = APIRouter(prefix="/api")
RunName = Annotated[str, Field(max_length=64)]
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the data of each is one FeedEvent.",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/FeedEvent"}}},
    }
}


@router.post("/sessions/{session}/generate", status_code=202)
def generate_route(session: str, body: wire.GenerateRequest, house: TheHouse) -> wire.JobInfo:
    """A new root branch."""
    house.store.session(session)
    if (body.prompt is None) == (body.messages is None):
        raise InputError("prompt", "give exactly one of prompt and messages")
    if body.messages is not None and body.suffix is not None:
        raise InputError("suffix", "goes with a prompt, not with messages")
    with house.jobs.place() as place:
        run = generate(
            house.model,
            prompt=body.prompt,
            suffix=body.suffix,
            messages=None if body.messages is None else [m.model_dump() for m in body.messages],
            language=body.language,
            settings=settings(body.settings),
        )
        return _begin(house, place, "generate", run, session)


@router.post("/sessions/{session}/score", status_code=202)
def score_route(session: str, body: wire.ScoreRequest, house: TheHouse) -> wire.JobInfo:
    """A new root branch that holds measured text, nothing generated."""
    house.store.session(session)
    with house.jobs.place() as place:
        run = score(house.model, body.text, language=body.language, alternatives=body.alternatives)
        return _begin(house, place, "score", run, session)


@router.post("/nodes/{node}/fork", status_code=202)
def fork_route(node: str, body: wire.ForkRequest, house: TheHouse) -> wire.JobInfo:
    """A branch that differs from its parent at one token."""
    given = [v for v in (body.token_id, body.token_ids, body.text) if v is not None]
    if len(given) != 1:
        raise InputError("token_id", "give exactly one of token_id, token_ids and text")
    parent = house.store.node(node)
    with house.jobs.place() as place:
        trace = house.store.trace(node)
        if body.at > len(trace):
            raise InputError("at", f"must lie in 0..{len(trace)}")
        run = fork(house.model, trace, body.at, given[0], settings(body.settings))
        return _begin(house, place, "fork", run, parent.session, parent.id, body.at)


@router.get("/runs")
def runs_route(house: TheHouse) -> list[wire.JobInfo]:
    """The jobs that run or ended lately, oldest first."""
    return [job.info() for job in house.jobs.all()]


@router.get("/runs/{run}")
def run_route(run: str, house: TheHouse) -> wire.JobInfo:
    """Where a job stands."""
    return house.jobs.get(run).info()


@router.post("/runs/{run}/cancel", status_code=204)
def cancel(run: str, house: TheHouse) -> None:
    """Stop a job within one step; what it wrote is kept."""
    house.jobs.cancel(run)


@router.get("/events", response_class=Response, responses=EVENTS)
def events_route(
    house: TheHouse,
    run: Annotated[list[RunName] | None, Query(max_length=64)] = None,
    session: Annotated[str, Query(max_length=64)] = "",
    last_event_id: Annotated[str, Header(max_length=64)] = "",
) -> EventView:
    """What jobs tell, on one stream: of the runs named, else of a session. It can be left and
    joined again: with the id of the last event seen, what came after follows."""
    return EventView(house.jobs, frozenset(run or ()), session, last_event_id)


def _begin(
    house: House, place: Place, kind: Kind, run: Run, session: str, parent: str | None = None,
    at: int = 0,
) -> wire.JobInfo:  # fmt: skip
    """Open the branch that the run will write, and begin."""
    shared = run.shared
    # a run may also share what another branch measured; the page has only the parent's numbers
    from_parent = parent is not None and shared is not None and len(shared) == at
    empty = run.trace
    recording = house.store.begin(
        session, empty.origin, form=empty.origin.form, language=empty.language, parent=parent,
        at=at, shared=shared if from_parent else None,
    )  # fmt: skip
    made = recording.node.id
    work = Decode(run, recording, from_parent, lambda: house.store.trace(made))
    return place.start(kind, session, made, work).info()


def settings(body: wire.Settings) -> Settings:
    """The wire's settings as those of the engine."""
    return Settings(**{**body.model_dump(), "stop": tuple(body.stop)})
