"""What moved between two branches that hold one text. Thin: parse, call, format."""

from __future__ import annotations

from base64 import b64encode
from contextlib import ExitStack
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.runs.compare import compare
from tokenscope.runs.compare_syntax import read_by
from tokenscope.server import drift_wire as wire
from tokenscope.server.compare_routes import apart_info
from tokenscope.server.compare_wire import ApartMeans
from tokenscope.server.decoding import begun
from tokenscope.server.house import House, TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.present import numbers
from tokenscope.server.wire import ScoreRequest
from tokenscope.trace import Trace

router = APIRouter(prefix="/api")
MOST_COLUMNS = 8


@router.get("/nodes/{node}/drift/{other}")
async def drift_route(
    node: str, other: str, request: Request, house: TheHouse,
    columns: Annotated[str, Query(max_length=400)] = "surprisal,entropy",
    language: Annotated[str, Query(max_length=32)] = "",
    exact: bool = False,
) -> wire.DriftResponse:  # fmt: skip
    """One text under two models or number types: what moved by kind of syntax, where the likeliest
    choices flip. ``exact``: both models, which have to be loaded, read it again."""
    names = [n for n in columns.split(",") if n]
    if not 1 <= len(names) <= MOST_COLUMNS:
        raise InputError("columns", f"must name 1 to {MOST_COLUMNS} columns")

    def work(control: Control) -> wire.DriftResponse:
        return _response(house, node, other, names, language or None, exact, control)

    return await worked(request, house, work)


@router.post("/nodes/{node}/read", status_code=202)
def read_route(node: str, body: wire.ReadRequest, house: TheHouse) -> wire.ReadInfo:
    """A branch's text read by another model, as a root of the same session; where that model has
    read it before, that root."""
    row, trace = house.store.node(node), house.store.trace(node)
    if row.status == "running":
        raise InputError("node", "is still being written")
    model = house.models.get(body.model)
    for known in house.store.nodes(row.session):
        if known.form != "score" or known.model_digest != model.info.model_digest:
            continue
        held = house.store.trace(known.id)
        if known.status == "done" and held.origin.dtype == model.info.dtype and same(held, trace):
            return wire.ReadInfo(node=known.id, run=None)
    asked = ScoreRequest(
        text=trace.text, model=body.model, language=trace.language, alternatives=body.alternatives
    )
    with begun(house, model, "score", asked) as beginning:
        job = beginning.go(
            read_by(beginning.model, trace, alternatives=body.alternatives), row.session
        )
    assert job.node is not None
    house.store.annotate(job.node, title=f"read by {model.info.name} {model.info.dtype}"[:200])
    return wire.ReadInfo(node=job.node, run=job.run)


def same(held: Trace, trace: Trace) -> bool:
    """Whether they hold one text; where ids mean the same, the same ids (marks have no bytes)."""
    if held.origin.tokenizer_digest == trace.origin.tokenizer_digest:
        return bool(np.array_equal(held.ids, trace.ids))
    return held.tokens.data == trace.tokens.data


def _response(
    house: House,
    node: str,
    other: str,
    names: list[str],
    language: str | None,
    exact: bool,
    control: Control,
) -> wire.DriftResponse:
    one, two = house.store.trace(node), house.store.trace(other)
    with ExitStack() as held:
        engines = (
            (held.enter_context(house.models.lease(house.models.maker(one))),
             held.enter_context(house.models.lease(house.models.maker(two))))
            if exact else (None, None)
        )  # fmt: skip
        found = compare(one, two, engines, control)
    moved = found.drift(names, language)
    flag = moved.trace.column("flip")
    overs = [x.over for x in found.apart.values()]
    return wire.DriftResponse(
        same_tokenizer=found.same_tokenizer, exact=moved.exact, places=moved.places,
        flipped=moved.flipped, kl_mean=found.mean_apart()["kl"], columns=names,
        flips=[
            wire.FlipInfo(
                t=f.t, byte=f.byte, category=f.category, a=b64encode(f.a).decode(),
                b=b64encode(f.b).decode(), p_a=f.p_a, p_b=f.p_b,
            )
            for f in moved.flips
        ],
        categories=[_category(row, names) for row in moved.categories],
        differences=[numbers(moved.trace.column(f"{n}_difference")) for n in names],
        kl=numbers(moved.trace.column("kl_between")),
        mean_apart=ApartMeans.model_validate(found.mean_apart()), over=overs[0] if overs else None,
        cells=[
            wire.DriftCell(
                a=list(cell.a), b=list(cell.b), category=kind, apart=apart_info(found.apart.get(n)),
                flip=_flag(flag, cell.a[0]),
            )
            for n, (cell, kind) in enumerate(zip(found.cells, moved.kinds, strict=True))
        ],
    )  # fmt: skip


def _flag(flags: NDArray[np.float32], t: int) -> bool | None:
    known = t < len(flags) and not np.isnan(flags[t])
    return bool(flags[t]) if known else None


def _category(row: dict[str, Any], names: list[str]) -> wire.MovedCategory:
    return wire.MovedCategory(
        category=row["category"], cells=row["cells"], kl=row["kl"], flips=row["flips"],
        places=row["places"],
        columns=[
            wire.MovedColumn(
                column=n, a=row[f"{n}_a"], b=row[f"{n}_b"], difference=row[f"{n}_difference"],
                moved=row[f"{n}_moved"],
            )
            for n in names
        ],
    )  # fmt: skip
