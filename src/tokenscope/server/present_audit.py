"""Audits as types of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from tokenscope.evidence import kept, review
from tokenscope.evidence.bounds import Bound
from tokenscope.evidence.kept import Kept
from tokenscope.evidence.policy import State
from tokenscope.evidence.report import LIMITS, MOST, Group, Report, data_of, place, snippet
from tokenscope.server import audit_wire as wire
from tokenscope.server.audit_job import Audits
from tokenscope.server.evidence_wire import DecisionPoint, FindingResponse
from tokenscope.store import NodeRow

STATES = (*get_args(State), "no gates")


def info(audits: Audits, held: Kept) -> wire.AuditInfo:
    """One line of the list. What is not ours is not believed: a summary may hold anything."""
    running, job = audits.running(held.name), audits.job(held.name)
    told = None if job is None else job.info()
    asked, summary = held.asked, held.summary
    header = _table(summary.get("audit"))
    ended = held.status == "done" and not running
    state = summary.get("state")
    done = _whole(summary.get("cases")) if ended else None
    if done is None:
        done = told.done if told is not None else kept.done(held.folder)
    total = (told.total if told is not None else None) or (asked.cases if asked else None)
    return wire.AuditInfo(
        id=held.name, title=(asked.title if asked else "") or held.name, created=held.created,
        model=asked.model if asked else str(header.get("model", "")),
        model_digest=asked.model_digest if asked else str(header.get("model_digest", "")),
        status="running" if running else held.status,
        state=state if ended and state in STATES else None,
        error=held.error or None, run=told.run if told is not None else None,
        resumable=asked is not None and held.status != "done" and not running,
        done=done, total=done if ended else total, left_s=told.left_s if told else None,
        samples=_whole(summary.get("samples")), findings=_whole(summary.get("findings")),
        errors=_whole(summary.get("errors")),
    )  # fmt: skip


def whole(audits: Audits, held: Kept) -> wire.AuditResponse:
    """All of one. Of one that has no case yet there is nothing but what was asked."""
    policy = held.folder / kept.POLICY
    told: dict[str, Any] = {
        "info": info(audits, held),
        "policy": policy.read_text("utf-8", "replace") if policy.is_file() else "",
        "limits": list(LIMITS),
        "files": [
            wire.AuditFile(name=n, bytes=size, type=kept.TYPES[n])
            for n, size in kept.files(held.folder)
        ],
    }  # fmt: skip
    if not (held.folder / kept.JOURNAL).is_file():
        return wire.AuditResponse(
            **told, settings={}, gates=[], figures=[], cases=[], cases_total=0, groups=[],
            groups_total=0, refused=[], refused_total=0, drift=[],
        )  # fmt: skip
    look = audits.look(held)
    report = look.report
    return wire.AuditResponse(
        **told, settings=dict(report.header), **_gates(report),
        cases=[_case(row) for row in look.rows], cases_total=look.total,
        groups=[_group(g) for g in report.worst], groups_total=report.groups,
        refused=[
            wire.RefusedInfo(where=str(e.get("where", "")), line=_whole(e.get("line")) or 0,
                             id=str(e.get("id", "")), reason=str(e.get("reason", "")))
            for e in report.errors[:MOST]
        ],
        refused_total=report.errors_total,
        drift=[
            wire.DriftInfo(kind=n, tokens=int(t), flips=int(k), mean_kl=kl / t)
            for n, (t, k, kl) in sorted(report.figures.drift.items())
        ],
    )  # fmt: skip


def sample(case: str, held: Mapping[str, Any], node: NodeRow | None) -> wire.SampleResponse:
    """One sample of the journal."""
    tokens = held["tokens"]
    return wire.SampleResponse(
        case=case, sample=held["sample"], seed=held["seed"], language=held["language"],
        finish=held["finish"], n_prompt=held["n_prompt"], parses=held["parses"],
        ids=tokens["ids"], offsets=[0, *tokens["ends"]], data=review.encoded(held),
        labels=tokens["labels"], surprisal=tokens["surprisal"], entropy=tokens["entropy"],
        findings=[FindingResponse(**f) for f in held["findings"]],
        masses={str(n): _mass(r) for r in held.get("risks", ()) for n in r["findings"]},
        alternatives={
            t: [wire.AlternativeInfo(text=str(a), logprob=p, chosen=c) for a, p, c in row]
            for t, row in held["alternatives"].items()
        },
        notes=held["notes"], session=None if node is None else node.session,
        node=None if node is None else node.id,
    )  # fmt: skip


def bound(held: Bound) -> wire.BoundInfo:
    """A figure; what is not finite is null."""
    return wire.BoundInfo(**held.to_json())


def _gates(report: Report) -> dict[str, Any]:
    return {
        "gates": [
            wire.GateInfo(
                gate=str(v.gate), figure=v.gate.figure, operator=v.gate.operator,
                limit=v.gate.limit, end="upper" if v.gate.operator == "<=" else "lower",
                state=v.state, margin=v.to_json()["margin"], why=v.why, bound=bound(v.bound),
            )
            for v in report.verdicts
        ],
        "figures": [
            wire.FigureInfo(name=n, bound=bound(b)) for n, b in report.figures.shown().items()
        ],
    }  # fmt: skip


def _case(row: review.CaseRow) -> wire.CaseInfo:
    return wire.CaseInfo(
        case=row.case, path=row.path, form=row.form, line=row.line, samples=row.samples,
        findings=row.findings, rules=list(row.rules), severity=row.severity,  # type: ignore[arg-type]
        risk=bound(row.risk), parsed=row.parsed, judged=row.judged, surprisal_max=row.surprisal,
        error=row.error or None, excerpt=row.excerpt,
    )  # fmt: skip


def _group(group: Group) -> wire.GroupInfo:
    line, column = place(data_of(group.sample), group.finding["start"])
    masses = [
        r for r in group.sample.get("risks", ())
        if any(group.sample["findings"][n]["rule"] == group.finding["rule"] for n in r["findings"])
    ]  # fmt: skip
    return wire.GroupInfo(
        case=group.case, path=group.path, form=group.form, sample=group.sample["sample"],
        count=group.count, risk=bound(group.risk), finding=FindingResponse(**group.finding),
        line=line, column=column, snippet=snippet(group.sample, group.finding),
        mass=_mass(masses[0]) if masses else None,
    )  # fmt: skip


def _mass(held: Mapping[str, Any]) -> wire.MassInfo:
    return wire.MassInfo(
        lower=held["lower"], upper=held["upper"], method=held["method"], at=held["at"],
        price=held["price"], said=held["said"],
        decisions=[
            DecisionPoint(**{k: d[k] for k in DecisionPoint.model_fields})
            for d in held["decisions"]
        ],
    )  # fmt: skip


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
