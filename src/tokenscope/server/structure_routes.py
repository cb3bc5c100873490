"""Structure: regions, roll-ups, attention between nodes, viability. Thin: parse, call, format."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray

from tokenscope.code.aliases import PLAIN
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.rollup import AGGREGATES
from tokenscope.code.views import language_of, rolled
from tokenscope.control import Control
from tokenscope.runs.structure import (
    Judged,
    NodeMatrix,
    attention_between,
    viability,
    with_viability,
)
from tokenscope.server import structure_wire as wire
from tokenscope.server.house import TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.numbers import check_index, number_or_word
from tokenscope.server.present import numbers
from tokenscope.trace import Trace
from tokenscope.trace.regions import CATEGORIES, LEVEL_BITS, LEVELS

router = APIRouter(prefix="/api")
LanguageName = Annotated[str, Query(max_length=32)]
Level = Annotated[str, Query(max_length=20)]
Part = Literal["generated", "prompt", "all"]


@router.get("/structure")
def structure_info() -> wire.StructureInfo:
    """Languages, levels, categories."""
    return wire.StructureInfo(
        languages=[
            *(wire.LanguageChoice(name=n, title=x.title) for n, x in LANGUAGES),
            *(wire.LanguageChoice(name=n, title=n.capitalize()) for n in PLAIN),
        ],
        levels=list(LEVELS), level_bits=dict(LEVEL_BITS), categories=list(CATEGORIES),
        aggregates=list(AGGREGATES),
    )  # fmt: skip


@router.get("/nodes/{node}/structure")
def structure_route(
    node: str, house: TheHouse, language: LanguageName = ""
) -> wire.StructureResponse:
    """The regions of a branch, also of one that is still growing."""
    trace = house.store.trace(node)
    found = house.followers.look(node, trace, language or None)
    cells, regions = found.alignment, found.alignment.regions
    return wire.StructureResponse(
        language=found.language, tokens=len(trace), kinds=list(regions.kinds),
        kind=regions.kind.tolist(), level=regions.level.tolist(),
        category=regions.category.tolist(), start=regions.start.tolist(),
        end=regions.end.tolist(), parent=regions.parent.tolist(),
        error=np.flatnonzero(regions.error).tolist(),
        missing=np.flatnonzero(regions.missing).tolist(), names=dict(regions.names),
        cell_start=cells.start.tolist(), cell_token=cells.token.tolist(),
        cell_region=cells.region.tolist(), cell_category=cells.category.tolist(),
        cost_ms=round(found.cost_ms, 3),
    )  # fmt: skip


@router.get("/nodes/{node}/rollup")
def rollup_route(
    node: str,
    house: TheHouse,
    column: Annotated[str, Query(max_length=80)] = "surprisal",
    by: Level = "statement",
    part: Part | None = None,
    group: Literal["region", "kind"] = "region",
    top: Annotated[int, Query(ge=1, le=1000)] = 3,
    language: LanguageName = "",
) -> wire.RollupResponse:
    """A column rolled up over a level of the syntax."""
    made = rolled(
        house.store.trace(node), column, by, part=part, group=group, top=top,
        language=language or None,
    )  # fmt: skip
    g = made.groups
    return wire.RollupResponse(
        column=column, by=by, part=made.part, group=group, region=g.region.tolist(),
        kind=list(g.kind), name=list(g.name), start=g.start.tolist(), end=g.end.tolist(),
        bytes=made.bytes.tolist(), count=made.count.tolist(),
        generated=made.generated.tolist(), prompt=made.prompt.tolist(),
        undefined=made.undefined.tolist(), mean=_short(made.mean), std=_short(made.std),
        min=_short(made.min), max=_short(made.max), sum=_short(made.sum), top=_short(made.top),
        quartiles=[_short(row) for row in made.quantiles],
    )  # fmt: skip


@router.get("/nodes/{node}/between")
async def between_route(
    node: str,
    request: Request,
    house: TheHouse,
    by: Level = "statement",
    layer: Annotated[str, Query(max_length=10)] = "mean",
    head: Annotated[str, Query(max_length=10)] = "mean",
    sink: Literal["drop", "keep"] = "drop",
    normalise: Literal["mass", "row", "density"] = "mass",
    part: Part = "all",
    language: LanguageName = "",
) -> wire.NodeMatrixResponse:
    """Attention between the nodes of a level."""

    def work(control: Control) -> tuple[NodeMatrix, str]:
        trace = house.store.trace(node)
        with house.models.reader(trace) as model:
            return attention_between(
            model, trace, by, layer=number_or_word("layer", layer),
            head=number_or_word("head", head), drop_sink=sink == "drop", normalise=normalise,
            part=part, language=language or None, control=control,
        )  # fmt: skip

    made, source = await worked(request, house, work)
    return wire.NodeMatrixResponse(
        by=by, normalise=normalise, source=source, region=made.region.tolist(),
        label=list(made.label), start=made.start.tolist(), end=made.end.tolist(),
        queries=made.queries.tolist(), keys=made.keys.tolist(), sink=_short(made.sink),
        unrecorded=_short(made.unrecorded), values=[_short(row) for row in made.values],
    )  # fmt: skip


@router.get("/nodes/{node}/viability/{t}")
def viability_row_route(
    node: str, t: int, house: TheHouse, language: LanguageName = ""
) -> wire.ViabilityRow:
    """Which alternatives of one token could go on to parse."""
    trace = house.store.trace(node)
    check_index("t", t, len(trace))
    name = language_of(trace, language or None)
    made = viability(trace, t, language=name)
    return wire.ViabilityRow(t=t, language=name, verdicts=made.row(t) if len(made.verdicts) else [])


@router.get("/nodes/{node}/viability")
async def viability_route(
    node: str,
    request: Request,
    house: TheHouse,
    language: LanguageName = "",
    budget: Annotated[float, Query(ge=0, le=30)] = 5.0,
) -> wire.ViabilityResponse:
    """The same for every generated token, within ``budget`` seconds, with the two columns."""

    def work(control: Control) -> tuple[Judged, Trace, str]:
        trace = house.store.trace(node)
        name = language_of(trace, language or None)
        made = viability(trace, language=name, budget_s=budget, control=control)
        return made, with_viability(trace, made), name

    made, whole, name = await worked(request, house, work)
    return wire.ViabilityResponse(
        language=name, first=made.first,
        verdicts=[made.row(made.first + i) for i in range(len(made.verdicts))],
        viable_mass=numbers(whole.column("viable_mass")),
        viable_entropy=numbers(whole.column("viable_entropy")),
    )  # fmt: skip


def _short(values: NDArray[np.float64]) -> list[float | None]:
    return numbers(values.astype(np.float32))
