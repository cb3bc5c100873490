"""Findings of a branch, and the risk mass of one. Thin: parse, call, format."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request

from tokenscope.code.views import language_of
from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.evidence.check import DEFAULT_CHECKS
from tokenscope.evidence.views import look
from tokenscope.runs.likelihood import NAME, Likelihood, likelihood
from tokenscope.runs.risk import RiskOf, risk
from tokenscope.server import evidence_wire as wire
from tokenscope.server.house import TheHouse
from tokenscope.server.leaving import worked
from tokenscope.server.present import numbers

router = APIRouter(prefix="/api")


@router.get("/nodes/{node}/findings")
async def findings_route(
    node: str, request: Request, house: TheHouse,
    language: Annotated[str, Query(max_length=32)] = "",
) -> wire.FindingsResponse:  # fmt: skip
    """What the checks find in a branch's text, also in one that still grows."""

    def work(control: Control) -> wire.FindingsResponse:
        trace = house.store.trace(node)
        name = language_of(trace, language or None)
        made = look(trace, language=name)
        return wire.FindingsResponse(
            language=name, complete=made.complete, checks=list(DEFAULT_CHECKS),
            notes=list(dict.fromkeys(made.notes)),
            findings=[wire.FindingResponse(**f.to_json()) for f in made.findings],
        )  # fmt: skip

    return await worked(request, house, work)


@router.get("/nodes/{node}/likelihood")
async def likelihood_route(node: str, request: Request, house: TheHouse) -> wire.LikelihoodResponse:
    """How likely a human would change each line, and how good that is on held-out files. Raises
    AbilityError where nothing was learnt for the model; takes seconds."""

    def work(control: Control) -> Likelihood:
        trace = house.store.trace(node)
        with house.models.lease(house.models.maker(trace)) as model:
            return likelihood(model, trace, control=control)

    made = await worked(request, house, work)
    held = made.learnt
    names = ("better", "verdict", "auroc", "ap", "ece", "rows", "positives", "files")
    return wire.LikelihoodResponse(
        values=numbers(made.trace.column(NAME)),
        lines=[wire.LineLikelihood(line=n + 1, probability=p) for n, p in made.lines],
        quality=wire.LikelihoodQuality(
            **{n: getattr(held, n) for n in names}, made_of=dict(held.made_of),
            bins=[wire.ReliabilityBin(said=b.said, came=b.came, n=b.n) for b in held.bins],
            rivals=[wire.RivalInfo(**asdict(r)) for r in held.rivals],
        ),
    )  # fmt: skip


@router.get("/nodes/{node}/risk")
async def risk_route(
    node: str, request: Request, house: TheHouse,
    rule: Annotated[str, Query(max_length=300)],
    start: Annotated[int, Query(ge=0)],
    most: Annotated[int, Query(ge=1, le=256)] = 64,
    draws: Annotated[int, Query(ge=0, le=256)] = 32,
) -> wire.RiskResponse:  # fmt: skip
    """The risk mass of the finding by ``rule`` that begins at byte ``start``: takes seconds."""

    def work(control: Control) -> RiskOf:
        trace = house.store.trace(node)
        found = [f for f in look(trace).findings if f.rule == rule and f.start == start]
        if not found:
            raise InputError("rule", "this branch has no such finding there")
        with house.models.lease(house.models.maker(trace)) as model:
            return risk(model, trace, found[0], most=most, draws=draws, control=control)

    made = (await worked(request, house, work)).to_json()
    known = {k: v for k, v in made.items() if k in wire.RiskResponse.model_fields}
    points = [
        wire.DecisionPoint(**{k: d[k] for k in wire.DecisionPoint.model_fields})
        for d in made["decisions"]
    ]
    safe = made["safe"]
    return wire.RiskResponse(
        **{**known, "decisions": points,
           "safe": None if safe is None else
           wire.SafeWay(start=safe["start"], text=safe["text"], mass=safe["mass"])}
    )  # fmt: skip
