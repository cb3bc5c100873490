"""Explanations and the attention explorer. Thin: parse, call one function of runs, format."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.explain.definitions import DEFINITIONS
from tokenscope.explain.heads import ALL_STATISTICS, PATTERNS
from tokenscope.explain.methods import METHODS
from tokenscope.explain.tables import TABLES
from tokenscope.runs import heads
from tokenscope.runs.explain import Explaining, ablation
from tokenscope.runs.patch import PatchJob
from tokenscope.runs.prompts import edited
from tokenscope.server import explain_wire as wire
from tokenscope.server.explain_stream import ExplainWriter
from tokenscope.server.house import TheHouse
from tokenscope.server.numbers import MAX_INDEX, OCTETS, number_or_word, octets
from tokenscope.server.patch_stream import PatchWriter
from tokenscope.server.stream import EventStream
from tokenscope.trace.record import Trace

router = APIRouter(prefix="/api")
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the data of each is one ExplainEvent.",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/ExplainEvent"}}},
    }
}
PATCH_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the data of each is one PatchStreamEvent.",
        "content": {
            "text/event-stream": {"schema": {"$ref": "#/components/schemas/PatchStreamEvent"}}
        },
    }
}
Position = Annotated[int, Query(ge=0, le=MAX_INDEX)]


@router.get("/explain")
def explain_info(house: TheHouse) -> wire.ExplainInfo:
    """Methods, tables, patterns, and the formula and source of every number."""
    internals = house.model.abilities.internals
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
            for x in (heads.layers(house.model) if internals else ())
        ],
    )  # fmt: skip


@router.post("/nodes/{node}/explain", response_class=Response, responses=EVENTS)
def explain_route(node: str, body: wire.ExplainRequest, house: TheHouse) -> EventStream:
    """Why this token rather than that one: a job with progress; stop it with the runs route."""
    trace = house.store.trace(node)
    with house.live.slot() as slot:
        return EventStream(
            ExplainWriter(
                lambda control: Explaining(
                    house.model, trace, body.at, body.contrast, body.method, body.token,
                    body.tables, control,
                ),
                node, slot,
            )
        )  # fmt: skip


@router.post("/nodes/{node}/patch", response_class=Response, responses=PATCH_EVENTS)
def patch_route(node: str, body: wire.PatchRequest, house: TheHouse) -> EventStream:
    """Where in the model the difference to another text is carried; as the explain route."""
    trace = house.store.trace(node)
    if not 1 <= body.at <= len(trace):
        raise InputError("at", f"must lie in 1..{len(trace)}")

    def make(control: Control) -> PatchJob:
        corrupt = edited(house.model, trace.cut(body.at), body.corrupt)
        tail = Trace(corrupt.tokens.joined(trace.tokens.slice(body.at, len(trace))), 0)
        same = len(tail) == len(trace)
        return PatchJob(
            house.model, trace, tail, body.at, body.contrast, body.token, body.parts,
            body.noising, None if same else "ends", control,
        )  # fmt: skip

    with house.live.slot() as slot:
        return EventStream(PatchWriter(make, node, slot))


@router.post("/nodes/{node}/ablate")
def ablate_route(node: str, body: wire.AblateRequest, house: TheHouse) -> wire.AblateResponse:
    """The effect of taking out one head, MLP or attention edge."""
    trace = house.store.trace(node)
    with house.live.slot():
        value, effect = ablation(
            house.model, trace, body.at, part=body.part, layer=body.layer, head=body.head,
            query=body.query, key=body.key, how=body.how, contrast=body.contrast,
            token=body.token,
        )  # fmt: skip
    return wire.AblateResponse(value=value, effect=effect)


@router.get("/nodes/{node}/heads", response_class=Response, responses=OCTETS)
def heads_route(
    node: str, house: TheHouse, size: Annotated[int, Query(ge=1, le=256)] = 48
) -> Response:
    """float32 (S, L, H) statistics, int32 (S,) counts, float32 (L, H, C, C) pictures."""
    trace = house.store.trace(node)
    with house.live.slot():
        seen = heads.survey(house.model, trace, size)
    layers, per, cells = seen.pictures.shape[:3]
    return octets(
        np.stack([seen.statistics[name] for name in ALL_STATISTICS]),
        np.asarray([seen.counts[name] for name in ALL_STATISTICS], dtype=np.int32),
        seen.pictures,
        heads_shape=f"{len(ALL_STATISTICS)},{layers},{per},{cells}", heads_cell=str(seen.cell),
        heads_layers=",".join(map(str, seen.layers)), memory_bytes=str(seen.estimate.total),
    )  # fmt: skip


@router.get("/nodes/{node}/matrix", response_class=Response, responses=OCTETS)
def matrix_route(
    node: str,
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
    trace = house.store.trace(node)
    n = len(trace)
    queries, keys = (q0, n if q1 is None else q1), (k0, n if k1 is None else k1)
    for name, (start, end) in (("q0", queries), ("k0", keys)):
        if not 0 <= start < end <= n:
            raise InputError(name, f"must be a part of 0..{n}, not empty")
    with house.live.slot():
        if kind == "rollout":
            values, source = heads.rollout(house.model, trace), "recomputed"
            values = values[slice(*queries), slice(*keys)]
        else:
            values, source = heads.window(
                house.model, trace, layer, number_or_word("head", head), queries, keys, kind
            )
    shape = ",".join(map(str, values.shape))
    return octets(values, attention_source=source, attention_shape=shape)


@router.get("/nodes/{node}/find")
def find_route(
    node: str,
    house: TheHouse,
    pattern: Annotated[str, Query(max_length=40)],
    query: Position | None = None,
    keys: Annotated[str, Query(max_length=4000, pattern=r"^(\d{1,9}(,\d{1,9})*)?$")] = "",
) -> list[wire.FoundHead]:
    """Heads that show a pattern most; ``edge`` takes a query position and key positions."""
    trace = house.store.trace(node)
    wanted = [int(k) for k in keys.split(",") if k]
    with house.live.slot():
        found = heads.find(house.model, trace, pattern, query, wanted)
    return [wire.FoundHead(layer=f.layer, head=f.head, score=f.score) for f in found]
