"""Two branches side by side. Thin: parse, call, format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.explore.divergence import Apart
from tokenscope.runs.compare import Compared, compare
from tokenscope.server import compare_wire as wire
from tokenscope.server.house import House, TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.wire import Summary

if TYPE_CHECKING:
    import pandas as pd

router = APIRouter(prefix="/api")
MOST_COLUMNS = 16


@router.get("/nodes/{node}/compare/{other}")
async def compare_route(
    node: str, other: str, request: Request, house: TheHouse,
    columns: Annotated[str, Query(max_length=400)] = "surprisal,entropy",
    by: Annotated[str, Query(max_length=40)] = "",
    exact: bool = False,
) -> wire.CompareResponse:  # fmt: skip
    """Where two branches part and meet again, what differs, how far their distributions lie apart:
    bounds by the alternatives that they keep, or ``exact`` by reading both again, with the models
    that made them. ``by``: a level of structure to roll the ``columns`` up over, too."""
    names = [n for n in columns.split(",") if n]
    if not 1 <= len(names) <= MOST_COLUMNS:
        raise InputError("columns", f"must name 1 to {MOST_COLUMNS} columns")

    def work(control: Control) -> wire.CompareResponse:
        return _response(house, node, other, names, by, exact, control)

    return await worked(request, house, work)


def _response(
    house: House, node: str, other: str, names: list[str], by: str, exact: bool, control: Control
) -> wire.CompareResponse:
    one, two = house.store.trace(node), house.store.trace(other)
    with ExitStack() as held:
        engines = (
            (held.enter_context(house.models.lease(house.models.maker(one))),
             held.enter_context(house.models.lease(house.models.maker(two))))
            if exact else (None, None)
        )  # fmt: skip
        found = compare(one, two, engines, control)
    plain = found.to_json(names)
    return wire.CompareResponse(
        node_a=node, node_b=other, model_a=one.origin.model, model_b=two.origin.model,
        **{n: plain[n] for n in ("same_text", "same_shape", "same_tokenizer", "mean_apart")},
        exact=bool(found.apart) and all(x.exact for x in found.apart.values()),
        fork=plain["fork"], at_fork=apart_info(found.at_fork),
        after_fork=apart_info(found.after_fork), meets=plain["meets"],
        joint_logprob=plain["joint_logprob"], columns=names,
        cells=list(_cells(found, plain["cells"], names)), syntax=plain["syntax"],
        rollups=[
            wire.ComparedRollup(column=n, rows=[_pair(r) for r in _rows(found.rollup(n, by))])
            for n in names
        ] if by else [],
        summary_a=Summary.model_validate(plain["summary"]["a"]),
        summary_b=Summary.model_validate(plain["summary"]["b"]),
    )  # fmt: skip


def _cells(
    found: Compared, rows: list[dict[str, Any]], names: list[str]
) -> Iterator[wire.ComparedCell]:
    for number, row in enumerate(rows):
        yield wire.ComparedCell(
            **{n: row[n] for n in ("a", "b", "same", "text_a", "text_b")},
            apart=apart_info(found.apart.get(number)),
            values_a=[row[f"{n}_a"] for n in names], values_b=[row[f"{n}_b"] for n in names],
        )  # fmt: skip


def apart_info(apart: Apart | None) -> wire.ApartInfo | None:
    """On the wire; a KL that is not finite is null."""
    if apart is None:
        return None
    kl = apart.kl if apart.kl is not None and math.isfinite(apart.kl) else None
    return wire.ApartInfo(
        kl=kl, tv_low=apart.low, tv_high=apart.high, exact=apart.exact, over=apart.over
    )  # fmt: skip


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    found = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(k): v for k, v in row.items()} for row in found]


def _pair(row: dict[str, Any]) -> wire.RolledPair:
    def side(name: str) -> wire.RolledSide | None:
        if row[f"start_{name}"] is None:
            return None
        whole = {n: int(row[f"{n}_{name}"]) for n in ("start", "end", "count")}
        return wire.RolledSide(**whole, **{n: row[f"{n}_{name}"] for n in ("mean", "sum", "max")})

    return wire.RolledPair(kind=row["kind"], name=row["name"], a=side("a"), b=side("b"))
