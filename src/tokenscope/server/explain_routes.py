"""Explanations and the attention explorer. Thin: parse, call one function of runs, format."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.explain.definitions import DEFINITIONS
from tokenscope.explain.heads import ALL_STATISTICS, PATTERNS, Found, Survey
from tokenscope.explain.methods import METHODS
from tokenscope.explain.tables import TABLES
from tokenscope.runs import heads
from tokenscope.runs.experts import experts
from tokenscope.runs.explain import ablation, explaining
from tokenscope.runs.patch import PatchJob
from tokenscope.runs.prompts import edited
from tokenscope.server import explain_wire as wire
from tokenscope.server.explain_job import Explain
from tokenscope.server.house import TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.numbers import MAX_INDEX, OCTETS, check_index, number_or_word, octets
from tokenscope.server.patch_job import Patch
from tokenscope.server.wire import JobInfo
from tokenscope.trace.record import Trace

router = APIRouter(prefix="/api")
Position = Annotated[int, Query(ge=0, le=MAX_INDEX)]


@router.get("/explain")
def explain_info(house: TheHouse) -> wire.ExplainInfo:
    """Methods, tables, patterns, and the formula and source of every number."""
    loaded = next((o.model for o in house.models.all() if o.model is not None), None)
    return wire.ExplainInfo(
        definitions=[
            wire.DefinitionInfo(
                name=n, group=d.group, title=d.title, unit=d.unit, formula=d.formula,
                source=d.source, limits=d.limits,
            )
            for n, d in DEFINITIONS
        ],
        methods=[wire.MethodInfo(name=n, cost=m.cost) for n, m in METHODS],
        tables=list(TABLES.names()),
        statistics=list(ALL_STATISTICS),
        patterns=[*PATTERNS.names(), "edge"],
        layers=[
            wire.LayerInfo(
                layer=x.layer, attention=x.attention, heads=x.heads, kv_heads=x.kv_heads,
                window=x.window, sinks=x.sinks,
            )
            for x in (heads.layers(loaded) if loaded and loaded.abilities.internals else ())
        ],
    )  # fmt: skip


@router.post("/nodes/{node}/explain", status_code=202)
def explain_route(node: str, body: wire.ExplainRequest, house: TheHouse) -> JobInfo:
    """Why this token rather than that one: a job; its events are ExplainEvents."""
    row, trace = house.store.node(node), house.store.trace(node)
    model = house.models.maker(trace)
    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        kept = ExitStack()
        work = Explain(
            lambda control: explaining(
                model, trace, body.at, body.contrast, body.method, body.token, body.tables, control,
            ),
            kept,
        )  # fmt: skip
        kept.push(held.pop_all())
        return place.start("explain", row.session, node, work).info()


@router.post("/nodes/{node}/patch", status_code=202)
def patch_route(node: str, body: wire.PatchRequest, house: TheHouse) -> JobInfo:
    """Where in the model the difference to another text is carried: a job; its events are
    PatchStreamEvents."""
    row, trace = house.store.node(node), house.store.trace(node)
    if not 1 <= body.at <= len(trace):
        raise InputError("at", f"must lie in 1..{len(trace)}")
    model = house.models.maker(trace)

    def make(control: Control) -> PatchJob:
        corrupt = edited(model, trace.cut(body.at), body.corrupt)
        tail = Trace(corrupt.tokens.joined(trace.tokens.slice(body.at, len(trace))), 0)
        same = len(tail) == len(trace)
        return PatchJob(
            model, trace, tail, body.at, body.contrast, body.token, body.parts,
            body.noising, None if same else "ends", control,
        )  # fmt: skip

    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        kept = ExitStack()
        work = Patch(make, kept)
        kept.push(held.pop_all())
        return place.start("patch", row.session, node, work).info()


@router.post("/nodes/{node}/ablate")
async def ablate_route(
    node: str, body: wire.AblateRequest, request: Request, house: TheHouse
) -> wire.AblateResponse:
    """The effect of taking out one head, MLP or attention edge."""

    def work(control: Control) -> tuple[float, float]:
        trace = house.store.trace(node)
        with house.models.lease(house.models.maker(trace)) as model:
            return ablation(
            model, trace, body.at, part=body.part, layer=body.layer,
            head=body.head, query=body.query, key=body.key, how=body.how, contrast=body.contrast,
            token=body.token, control=control,
        )  # fmt: skip

    value, effect = await worked(request, house, work)
    return wire.AblateResponse(value=value, effect=effect)


@router.get("/nodes/{node}/heads", response_class=Response, responses=OCTETS)
async def heads_route(
    node: str, request: Request, house: TheHouse, size: Annotated[int, Query(ge=1, le=256)] = 48
) -> Response:
    """float32 (S, L, H) statistics, int32 (S,) counts, float32 (L, H, C, C) pictures."""

    def work(control: Control) -> Survey:
        trace = house.store.trace(node)
        with house.models.lease(house.models.maker(trace)) as model:
            return heads.survey(model, trace, size, control)

    seen = await worked(request, house, work)
    layers, per, cells = seen.pictures.shape[:3]
    return octets(
        np.stack([seen.statistics[name] for name in ALL_STATISTICS]),
        np.asarray([seen.counts[name] for name in ALL_STATISTICS], dtype=np.int32),
        seen.pictures,
        heads_shape=f"{len(ALL_STATISTICS)},{layers},{per},{cells}", heads_cell=str(seen.cell),
        heads_layers=",".join(map(str, seen.layers)), memory_bytes=str(seen.estimate.total),
    )  # fmt: skip


@router.get("/nodes/{node}/matrix", response_class=Response, responses=OCTETS)
async def matrix_route(
    node: str,
    request: Request,
    house: TheHouse,
    layer: Position = 0,
    head: Annotated[str, Query(max_length=10)] = "mean",
    kind: Literal["weights", "norm", "rollout"] = "weights",
    q0: Position = 0,
    q1: Position | None = None,
    k0: Position = 0,
    k1: Position | None = None,
) -> Response:
    """float32 (queries, keys) of one head, of the mean or maximum over heads, or the rollout."""

    def work(control: Control) -> tuple[NDArray[np.float32], str]:
        trace = house.store.trace(node)
        n = len(trace)
        queries, keys = (q0, n if q1 is None else q1), (k0, n if k1 is None else k1)
        for name, (start, end) in (("q0", queries), ("k0", keys)):
            if not 0 <= start < end <= n:
                raise InputError(name, f"must be a part of 0..{n}, not empty")
        with house.models.lease(house.models.maker(trace)) as model:
            if kind == "rollout":
                whole = heads.rollout(model, trace, control)
                return whole[slice(*queries), slice(*keys)], "recomputed"
            return heads.window(
            model, trace, layer, number_or_word("head", head), queries, keys, kind,
            control=control,
        )  # fmt: skip

    values, source = await worked(request, house, work)
    shape = ",".join(map(str, values.shape))
    return octets(values, attention_source=source, attention_shape=shape)


@router.get("/nodes/{node}/find")
async def find_route(
    node: str,
    request: Request,
    house: TheHouse,
    pattern: Annotated[str, Query(max_length=40)],
    query: Position | None = None,
    keys: Annotated[str, Query(max_length=4000, pattern=r"^(\d{1,9}(,\d{1,9})*)?$")] = "",
) -> list[wire.FoundHead]:
    """Heads that show a pattern most; ``edge`` takes a query position and key positions."""
    wanted = [int(k) for k in keys.split(",") if k]

    def work(control: Control) -> list[Found]:
        trace = house.store.trace(node)
        with house.models.lease(house.models.maker(trace)) as model:
            return heads.find(model, trace, pattern, query, wanted, control=control)

    found = await worked(request, house, work)
    return [wire.FoundHead(layer=f.layer, head=f.head, score=f.score) for f in found]


@router.get("/nodes/{node}/experts/{t}")
async def experts_route(
    node: str, t: int, request: Request, house: TheHouse
) -> list[wire.ExpertsOfLayer]:
    """A mixture of experts: whom the step that chose token ``t`` asked, in every layer."""

    def work(control: Control) -> list[wire.ExpertsOfLayer]:
        trace = house.store.trace(node)
        check_index("t", t, len(trace))
        with house.models.lease(house.models.maker(trace)) as model:
            rows = experts(model, trace.cut(t + 1)).at(t)
        return [wire.ExpertsOfLayer.model_validate(row) for row in rows]

    return await worked(request, house, work)
