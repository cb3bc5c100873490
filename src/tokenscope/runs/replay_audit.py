"""An audit made again from its journal: the same ids, the same numbers, the same findings, or what
differs.

Every sample is decoded again from its given tokens with its own seed, every file of code measured
again, and the checks run over what comes. Risk masses and drift are not made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError, MissingError
from tokenscope.evidence.cases import Case
from tokenscope.evidence.records import read_records
from tokenscope.evidence.report import data_of
from tokenscope.evidence.review import tokens_of
from tokenscope.runs.audit_case import Plan, sample_of
from tokenscope.runs.generate import begin
from tokenscope.runs.many import together
from tokenscope.runs.model import Model
from tokenscope.runs.replay import TOLERANCE
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.runs.windows import score
from tokenscope.trace.record import Trace

COLUMNS = ("surprisal", "entropy")
MOST = 100  # differences that are told one by one


@dataclass(frozen=True)
class AuditReplay:
    """``differing``: (case, sample, what) of the first hundred, of ``total``; ``columns``: the
    largest difference of each, relative to max(1, |value|); ``reasons``: what of the environment
    differs; ``skipped``: cases that were errors then, and are not done again."""

    same: bool
    cases: int
    samples: int
    skipped: int
    total: int
    differing: tuple[tuple[str, int, str], ...] = ()
    columns: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "same": self.same, "cases": self.cases, "samples": self.samples,
            "skipped": self.skipped, "differing": self.total, "columns": dict(self.columns),
            "first": [{"case": c, "sample": n, "what": w} for c, n, w in self.differing],
            "reasons": list(self.reasons),
        }  # fmt: skip


def replay_audit(
    model: Model, folder: Path, every: int = 1, control: Control = QUIET
) -> AuditReplay:
    """Make the audit in ``folder`` again and compare; ``every`` n-th of its cases.

    Raises InputError where there is none, MissingError when another model is loaded, Cancelled.
    """
    header, records = read_records(folder)
    info = model.info
    if (header.get("model_digest"), header.get("tokenizer_digest")) != (
        info.model_digest, info.tokenizer_digest,
    ):  # fmt: skip
        raise MissingError(
            f"the audit was made with {str(header.get('model'))[:80]!r}, loaded is "
            f"{info.name[:80]!r}"
        )
    plan, notes = _plan(header)
    told: list[tuple[str, int, str]] = []
    worst = dict.fromkeys(COLUMNS, 0.0)
    cases = samples = skipped = total = 0
    tolerance = {n: max(TOLERANCE, float(header.get("errors", {}).get(n, 0.0))) for n in COLUMNS}
    for number, record in enumerate(records):
        if number % every:
            continue
        cases += 1
        control.step(cases, cases, "cases")
        if record["error"]:
            skipped += 1
            continue
        for held, trace in _again(model, record, plan, control):
            samples += 1
            said = list(_differences(record, held, trace, plan, worst, tolerance, bool(notes)))
            total += len(said)
            told += [(record["case"], held["sample"], what) for what in said][: MOST - len(told)]
    reasons = [*notes, *(_environment(header, model) if total else ())]
    return AuditReplay(
        not total, cases, samples, skipped, total, tuple(told), worst, tuple(reasons)
    )


def _plan(header: Mapping[str, Any]) -> tuple[Plan, list[str]]:
    """The plan of the header. Packs are known by name only: with others than ours, findings are
    not compared, and a note says so."""
    try:
        held = dict(header["settings"])
        packs = [r for r in held.get("rules", ()) if r != "starter"]
        outside = bool(packs) or "semgrep" in held["checks"]
        plan = Plan(
            tuple(held["checks"]), held["samples"], held["seed"],
            {k: v for k, v in held.items() if k in Settings.__dataclass_fields__ and k != "seed"},
            held["language"], None if held["allow"] is None else tuple(held["allow"]),
            tuple(held["project"]), () if packs else tuple(held.get("rules", ())),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise InputError("AUDIT", "its journal does not say how it was made") from error
    said = "findings were not compared: they came from rules that are not part of TokenScope"
    return plan, [said] if outside else []


def _again(
    model: Model, record: Mapping[str, Any], plan: Plan, control: Control
) -> Iterator[tuple[Mapping[str, Any], Trace]]:
    if record["form"] == "code":
        (held,) = record["samples"]
        text = data_of(held).decode()
        yield held, score(model, text, language=held["language"]).result()
        return
    settings = dict(plan.settings)
    model.prefixes.clear()

    def begun() -> Iterator[Run]:
        for held in record["samples"]:
            own = Settings(**{**settings, "seed": held["seed"], "attention": "none",
                              "speculate": "none"})  # fmt: skip
            given = tokens_of(held).slice(0, held["n_prompt"])
            yield begin(model, given, held.get("form", "plain"), own, language=held["language"],
                        fresh=True)  # fmt: skip

    done = dict(together(begun(), watch=lambda *_: control.step(0, 0, "samples")))
    for number, held in enumerate(record["samples"]):
        yield held, done[number].trace


def _differences(
    record: Mapping[str, Any], held: Mapping[str, Any], trace: Trace, plan: Plan,
    worst: dict[str, float], tolerance: Mapping[str, float], loose: bool,
) -> Iterator[str]:  # fmt: skip
    was = np.asarray(held["tokens"]["ids"])
    n = min(len(was), len(trace))
    unequal = np.nonzero(was[:n] != trace.ids[:n])[0]
    if len(unequal) or len(was) != len(trace):
        at = int(unequal[0]) if len(unequal) else n
        yield f"ids from token {at} on ({len(was)} tokens then, {len(trace)} now)"
        n = at
    for name in COLUMNS:
        then = np.asarray([np.nan if v is None else v for v in held["tokens"][name][:n]])
        now = trace.column(name)[:n].astype(np.float64)
        gap = np.abs(then - now) / np.maximum(1.0, np.abs(then))
        most = float(np.nanmax(gap, initial=0.0))
        worst[name] = max(worst[name], most)
        if most > tolerance[name] or bool((np.isnan(then) != np.isnan(now)).any()):
            yield f"{name} by {most:.1e} (allowed: {tolerance[name]:.0e})"
    if loose or n < len(was):
        return
    case = Case(
        record["case"], prompt="", language=held["language"],
        changed=None if record["changed"] is None else tuple(map(tuple, record["changed"])),
        code=trace.text if record["form"] == "code" else None,
    )  # fmt: skip
    made = sample_of(trace, held["sample"], held["seed"], case, plan, plan.options())
    if made["parses"] != held["parses"]:
        yield f"parses: {held['parses']} then, {made['parses']} now"
    one, two = ({(f["rule"], f["start"], f["end"]) for f in s["findings"]} for s in (held, made))
    if one != two:
        rules = sorted({r for r, _, _ in one ^ two})
        yield f"findings of {', '.join(rules[:5])}"


def _environment(header: Mapping[str, Any], model: Model) -> Iterator[str]:
    info = model.info
    for name, now in (("dtype", info.dtype), ("backend", info.backend)):
        if header.get(name) != now:
            yield f"{name} was {header.get(name)}, is {now}"
    was = header.get("versions", {})
    for name, version in info.versions.items():
        if was.get(name, "?") != version:
            yield f"{name} was {was.get(name, '?')}, is {version}"
