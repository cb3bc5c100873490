"""Audits: begun, watched, gone on with, read, fetched. Thin: parse, call, format."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from tokenscope.control import Control
from tokenscope.errors import InputError, NotFound
from tokenscope.evidence import kept, review
from tokenscope.evidence.check import CHECKS, DEFAULT_CHECKS
from tokenscope.evidence.figures import KNOWN
from tokenscope.evidence.records import read_records
from tokenscope.runs.audit_kept import begin, reopened
from tokenscope.server import audit_wire as wire
from tokenscope.server import present_audit as present
from tokenscope.server.decoding import begun
from tokenscope.server.house import House, TheHouse
from tokenscope.server.leaving import worked
from tokenscope.store import NodeRow

router = APIRouter(prefix="/api")
SAMPLING = ("samples", "temperature", "max_new_tokens", "seed")
EXAMPLE = """on_error = "skip"

[sampling]
samples = 10
temperature = 0.8
max_new_tokens = 64

[gates]
"CWE-78".risk_upper = "<= 0.05"
parse_rate.lower = ">= 0.9"
"""


@router.get("/policy")
def policy_route() -> wire.PolicyInfo:
    """What a policy may say."""
    here = [n for n in CHECKS.names() if n != "semgrep"]
    return wire.PolicyInfo(
        checks=here, default_checks=list(DEFAULT_CHECKS), figures=list(KNOWN), example=EXAMPLE
    )


@router.get("/audits")
def audits_route(house: TheHouse) -> list[wire.AuditInfo]:
    """The audits in the data folder, newest first."""
    return [present.info(house.audits, k) for k in kept.every(house.audits.root)]


@router.post("/audits", status_code=202)
def audit_route(body: wire.AuditRequest, house: TheHouse) -> wire.AuditInfo:
    """Begin one: a job whose events are AuditEvents."""
    prompts, name = kept.prompts_of(_chosen(house, body.gallery), body.prompts, body.form)
    sampling = {n: v for n in SAMPLING if (v := getattr(body, n)) is not None}
    model = house.models.get(body.model)
    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        folder = begin(
            house.audits.root, model, prompts, name, body.policy, sampling, body.title.strip()
        )
        house.audits.start(place, model, folder.name, held.pop_all())
    return _info(house, folder.name)


@router.get("/audits/{name}")
async def one_audit_route(name: str, request: Request, house: TheHouse) -> wire.AuditResponse:
    """One audit as far as it has come."""

    def work(control: Control) -> wire.AuditResponse:
        return present.whole(house.audits, kept.get(house.audits.root, name))

    return await worked(request, house, work)


@router.post("/audits/{name}/resume", status_code=202)
def resume_route(name: str, house: TheHouse) -> wire.AuditInfo:
    """Go on with one that has stopped before its end: what is done is not done again."""
    found = kept.get(house.audits.root, name)
    if found.status == "done" or found.asked is None:
        raise InputError("audit", "is done, or was not begun here")
    made = found.asked
    model = house.models.known(made.model_digest, made.model, made.dtype, "this audit")
    with house.jobs.place() as place, ExitStack() as held:
        held.enter_context(house.models.lease(model))
        house.audits.start(place, model, name, held.pop_all())
    return _info(house, name)


@router.get("/audits/{name}/sample")
async def sample_route(
    name: str, request: Request, house: TheHouse,
    case: Annotated[str, Query(max_length=500)],
    sample: Annotated[int, Query(ge=0)] = 0,
) -> wire.SampleResponse:  # fmt: skip
    """One sample with its tokens, findings and what else could have stood there."""

    def work(control: Control) -> wire.SampleResponse:
        found = kept.get(house.audits.root, name)
        _, held = _sample(found, case, sample)
        node = _opened(house, found, case, sample)
        return present.sample(case, held, node)

    return await worked(request, house, work)


@router.post("/audits/{name}/open", status_code=202)
def open_route(name: str, body: wire.OpenRequest, house: TheHouse) -> wire.OpenedResponse:
    """A sample as a branch that every view can show: its very tokens, measured again. A token of a
    finding has the same index there."""
    found = kept.get(house.audits.root, name)
    header, held = _sample(found, body.case, body.sample)
    if (node := _opened(house, found, body.case, body.sample)) is not None:
        return wire.OpenedResponse(session=node.session, node=node.id, run=None)
    made = [str(header.get(n, "")) for n in ("model_digest", "model", "dtype")]
    model = house.models.known(made[0], made[1], made[2], "this audit")
    with begun(house, model, "score", body) as beginning:
        run = reopened(model, held, str(header.get("tokenizer_digest", "")))
        title = _title(found)
        sessions = [s.id for s in house.store.sessions() if s.title == title]
        session = sessions[0] if sessions else house.store.new_session(title).id
        job = beginning.go(run, session)
    assert job.node is not None
    label = f"{body.case[:150]} #{body.sample}"
    house.store.annotate(job.node, title=label)
    return wire.OpenedResponse(session=session, node=job.node, run=job.run)


@router.get("/audits/{name}/files/{file}", response_class=Response)
def file_route(name: str, file: str, house: TheHouse) -> StreamingResponse:
    """One output file, as an attachment; only names of the list that the audit tells."""
    found = kept.get(house.audits.root, name)
    pieces = kept.content(found.folder, file)
    return StreamingResponse(
        pieces, media_type=kept.TYPES[file],
        headers={
            "content-disposition": f'attachment; filename="{found.name}-{file}"',
            "content-security-policy": "sandbox; default-src 'none'",
            "x-content-type-options": "nosniff", "cache-control": "no-store",
        },
    )  # fmt: skip


def _info(house: House, name: str) -> wire.AuditInfo:
    return present.info(house.audits, kept.get(house.audits.root, name))


def _chosen(house: House, names: list[str]) -> list[dict[str, Any]]:
    """Prompts of the gallery as lines of a file. Raises InputError."""
    known = {item.id: item for item in house.gallery}
    if any(n not in known for n in names):
        raise InputError("gallery", "names a prompt that is not there")
    return [
        {
            "id": f"gallery/{n}", "prompt": known[n].prompt, "language": known[n].language,
            **({} if known[n].suffix is None else {"suffix": known[n].suffix}),
        }
        for n in dict.fromkeys(names)
    ]  # fmt: skip


def _sample(found: kept.Kept, case: str, number: int) -> tuple[dict[str, Any], Any]:
    """(the header of the audit, a sample of it). Raises NotFound."""
    header, records = read_records(found.folder)
    held = review.find(records, case, number)
    if held is None:
        raise NotFound("the audit has no such sample")
    return header, held[1]


def _title(found: kept.Kept) -> str:
    """The session that its samples are opened in; one that is renamed is the user's own."""
    return f"Audit {found.name}"


def _opened(house: House, found: kept.Kept, case: str, number: int) -> NodeRow | None:
    """The branch that a sample was opened as, while it is there."""
    asked = {"case": case, "sample": number}
    for session in house.store.sessions():
        if session.title == _title(found):
            for node in house.store.nodes(session.id):
                if node.request == asked:
                    return node
    return None
