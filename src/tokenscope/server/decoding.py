"""The routes that decode: each begins a job, whose events are read from one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field

from tokenscope.errors import InputError
from tokenscope.runs.generate import Run, Settings, fork, generate, score
from tokenscope.server import wire
from tokenscope.server.decode_job import Decode
from tokenscope.server.house import House, TheHouse
from tokenscope.server.jobs import Kind, Place
from tokenscope.server.stream import EventView
from tokenscope.trace.edits import read

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

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
    with begun(house, house.models.get(body.model), "generate", body) as beginning:
        run = generate(
            beginning.model,
            prompt=body.prompt,
            suffix=body.suffix,
            messages=None if body.messages is None else [m.model_dump() for m in body.messages],
            language=body.language,
            settings=settings(body.settings),
        )
        return beginning.go(run, session)


@router.post("/sessions/{session}/score", status_code=202)
def score_route(session: str, body: wire.ScoreRequest, house: TheHouse) -> wire.JobInfo:
    """A new root branch that holds measured text, nothing generated."""
    house.store.session(session)
    with begun(house, house.models.get(body.model), "score", body) as beginning:
        run = score(
            beginning.model, body.text, language=body.language, alternatives=body.alternatives
        )
        return beginning.go(run, session)


@router.post("/nodes/{node}/fork", status_code=202)
def fork_route(node: str, body: wire.ForkRequest, house: TheHouse) -> wire.JobInfo:
    """A branch that differs from its parent at one token; the model that made the parent goes on.

    Raises ModelNotLoaded when that one is not loaded.
    """
    given = [v for v in (body.token_id, body.token_ids, body.text) if v is not None]
    if len(given) != 1:
        raise InputError("token_id", "give exactly one of token_id, token_ids and text")
    parent, trace = house.store.node(node), house.store.trace(node)
    if body.at > len(trace):
        raise InputError("at", f"must lie in 0..{len(trace)}")
    with begun(house, house.models.maker(trace), "fork", body) as beginning:
        run = fork(beginning.model, trace, body.at, given[0], settings(body.settings))
        return beginning.go(run, parent.session, parent.id, body.at)


@router.post("/nodes/{node}/continue", status_code=202)
def continue_route(node: str, house: TheHouse) -> wire.JobInfo:
    """Take up a run that a crash or the disk interrupted, by what was asked for then: a branch
    from its last token, or, where it had not come that far, the same request again."""
    row, trace = house.store.node(node), house.store.trace(node)
    asked = dict(row.request or {})
    if row.status != "interrupted" or not asked:
        raise InputError("node", "was not interrupted, or is not known to be one that can go on")
    if "settings" not in asked:
        return score_route(row.session, wire.ScoreRequest.model_validate(asked), house)
    segments = trace.origin.segments
    # its own segment begins after all that was given, a branch's new text as well
    made = len(trace) - segments[-1].start if segments else 0
    if made > 0:
        wanted = {**asked["settings"]}
        wanted["max_new_tokens"] = max(0, wanted["max_new_tokens"] - made)
        rest = wire.ForkRequest(at=len(trace), text="", settings=wire.Settings(**wanted))
        return fork_route(node, rest, house)
    if row.parent is not None:
        return fork_route(row.parent, wire.ForkRequest.model_validate(asked), house)
    return generate_route(row.session, wire.GenerateRequest.model_validate(asked), house)


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


@dataclass(frozen=True)
class Beginning:
    """A place, and a model that stays loaded, for a run that is about to begin."""

    house: House
    place: Place
    held: ExitStack
    model: Model
    kind: Kind
    asked: dict[str, Any]

    def go(
        self, run: Run, session: str, parent: str | None = None, at: int = 0,
        work: Callable[..., Decode] = Decode,
    ) -> wire.JobInfo:  # fmt: skip
        """Open the branch that the run will write, and begin."""
        shared = run.shared
        # a run may also share what another branch measured; the page has only the parent's numbers
        from_parent = parent is not None and shared is not None and len(shared) == at
        empty, store = run.trace, self.house.store
        recording = store.begin(
            session, empty.origin, form=empty.origin.form, language=empty.language, parent=parent,
            at=at, shared=shared if from_parent else None, request=self.asked,
        )  # fmt: skip
        made = recording.node.id
        job = work(run, recording, from_parent, lambda: store.trace(made), self.held.pop_all())
        return self.place.start(self.kind, session, made, job).info()


@contextmanager
def begun(house: House, model: Model, kind: Kind, body: BaseModel) -> Iterator[Beginning]:
    """Both are given back at the end of the block, or at the end of the run that began in it."""
    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        yield Beginning(house, place, held, model, kind, body.model_dump(by_alias=True))


def settings(body: wire.Settings) -> Settings:
    """The wire's settings as those of the engine."""
    edits = tuple(read(e.model_dump(by_alias=True)) for e in body.edits)
    return Settings(**{**body.model_dump(), "stop": tuple(body.stop), "edits": edits})
