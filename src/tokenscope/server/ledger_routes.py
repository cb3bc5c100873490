"""Ledgers. Thin: parse, make the work, begin a job; or give one that is done as a file."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, Literal

from fastapi import APIRouter, Response

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.runs.ledger import LedgerJob
from tokenscope.server import ledger_wire as wire
from tokenscope.server.decoding import settings
from tokenscope.server.house import TheHouse
from tokenscope.server.ledger_job import Arms
from tokenscope.server.wire import JobInfo
from tokenscope.trace.edits import read

router = APIRouter(prefix="/api")
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/html": {}}}
}


@router.post("/ledger", status_code=202)
def ledger_route(body: wire.LedgerRequest, house: TheHouse) -> JobInfo:
    """Arms of edits over prompts: a job; its events are LedgerEvents."""
    model = house.models.get(body.model)
    arms = {a.name: [read(e.model_dump(by_alias=True)) for e in a.edits] for a in body.arms}
    if len(arms) != len(body.arms):
        raise InputError("arms", "two have one name")
    how = settings(body.settings)

    def make(control: Control) -> LedgerJob:
        return LedgerJob(
            model, body.prompts, arms, outcome=body.outcome, reference=body.reference,
            draws=body.draws, language=body.language, settings=how, control=control,
        )  # fmt: skip

    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        kept = ExitStack()
        work = Arms(make, kept, house.ledgers)
        kept.push(held.pop_all())
        return place.start("ledger", "", "", work).info()


@router.get("/ledger/{run}", response_class=Response, responses=FILE)
def ledger_file(run: str, house: TheHouse, format: Literal["json", "html"] = "json") -> Response:
    """A ledger that is done, of the last eight, as a file: JSON, or a page of its own."""
    found = house.ledgers.get(run)
    name = {"content-disposition": f'attachment; filename="ledger.{format}"'}
    if format == "html":
        return Response(found.html(), media_type="text/html", headers=name)
    text = json.dumps(found.to_json(), indent=1, allow_nan=False)
    return Response(text, media_type="application/json", headers=name)
