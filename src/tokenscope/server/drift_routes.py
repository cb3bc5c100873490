"""What moved between two branches that hold one text. Thin: parse, call, format."""

from __future__ import annotations

from base64 import b64encode
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.runs.compare import compare
from tokenscope.server import drift_wire as wire
from tokenscope.server.house import House, TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.present import numbers

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
        return _response(house, node, other, names, language or None, exact)

    return await worked(request, house, work)


def _response(
    house: House, node: str, other: str, names: list[str], language: str | None, exact: bool
) -> wire.DriftResponse:
    one, two = house.store.trace(node), house.store.trace(other)
    with ExitStack() as held:
        engines = (
            (held.enter_context(house.models.lease(house.models.maker(one))),
             held.enter_context(house.models.lease(house.models.maker(two))))
            if exact else (None, None)
        )  # fmt: skip
        found = compare(one, two, engines)
    moved = found.drift(names, language)
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
    )  # fmt: skip


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
