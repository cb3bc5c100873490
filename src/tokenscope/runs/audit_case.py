"""One case of an audit: decode or measure it, check it, keep what a report needs."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope.code.views import language_of, rolled
from tokenscope.control import QUIET, Cancelled, Control
from tokenscope.decode.engine import Engine
from tokenscope.decode.step import Step
from tokenscope.errors import CapacityError, TokenScopeError
from tokenscope.evidence.cases import Case
from tokenscope.evidence.check import Options, Ranges
from tokenscope.evidence.fenced import checked
from tokenscope.evidence.pack import read_packs
from tokenscope.runs.drift import drift_of
from tokenscope.runs.generate import generate
from tokenscope.runs.many import together
from tokenscope.runs.risk import risk
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.runs.windows import score
from tokenscope.trace.findings import Finding
from tokenscope.trace.record import Trace

AROUND = 2  # lines before and after a finding whose tokens keep their alternatives
MOST_FINDINGS = 200  # of one sample


@dataclass(frozen=True)
class Plan:
    """How every case is done; plain values, so that it can go to another process.

    ``samples`` continuations of a prompt, each with a seed of its own made of ``seed``, the id of
    the case and its number: which process does it, and in which order, changes nothing. ``risk``:
    how the risk mass of findings is enumerated (None: it is not).
    """

    checks: tuple[str, ...]
    samples: int = 1
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""
    allow: tuple[str, ...] | None = None
    project: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    semgrep: str = ""
    risk: Mapping[str, Any] | None = None

    def options(self) -> Options:
        """What the checks are told. Raises InputError for a pack that cannot be read."""
        packs = None
        if self.rules:
            packs = tuple(p for path in self.rules for p in _packs(path))
        return Options(
            None if self.allow is None else frozenset(self.allow), frozenset(self.project), packs,
            self.semgrep,
        )  # fmt: skip


def _packs(path: str) -> Any:
    from tokenscope.evidence.pack import starter

    return starter() if path == "starter" else read_packs(Path(path))


def seed_of(base: int, case: str, sample: int) -> int:
    """The seed of one sample: independent of all others, and of how the work is shared out."""
    text = f"{base}:{sample}:{case}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big")


def audit_case(
    engine: Engine, case: Case, plan: Plan, options: Options, baseline: Engine | None = None,
    control: Control = QUIET,
) -> dict[str, Any]:  # fmt: skip
    """The record of a case: plain values. An error of the case alone is kept in it. ``baseline``:
    another build of the model, against which drift is measured. Raises Cancelled."""
    record: dict[str, Any] = {
        "case": case.id, "path": case.path, "line": case.line,
        "form": "code" if case.code is not None else "prompt", "error": None, "samples": [],
        "changed": None if case.changed is None else [list(r) for r in case.changed],
    }  # fmt: skip
    try:
        if case.code is not None:
            trace = score(engine, case.code, language=case.language).result()
            record["samples"] = [sample_of(trace, 0, None, case, plan, options)]
            _add_risks(engine, trace, record["samples"][0], plan, options, set(), control)
            _add_drift(engine, baseline, trace, record["samples"][0])
        else:
            known: set[str] = set()
            for number, trace in _continued(engine, case, plan, control):
                seed = seed_of(plan.seed, case.id, number)
                made = sample_of(trace, number, seed, case, plan, options)
                _add_risks(engine, trace, made, plan, options, known, control)
                _add_drift(engine, baseline, trace, made)
                record["samples"].append(made)
    except TokenScopeError as error:
        record["error"] = {"code": error.code, "message": str(error)[:500]}
        record["samples"] = []
    return record


def _continued(engine: Engine, case: Case, plan: Plan, control: Control) -> list[tuple[int, Trace]]:
    # what is kept of earlier cases, and what speculation costs today, would show in last digits
    common = Settings(**{**plan.settings, "attention": "none", "speculate": "none"})
    engine.prefixes.clear()

    def begun() -> Any:
        for n in range(plan.samples):
            settings = replace(common, seed=seed_of(plan.seed, case.id, n))
            language = case.language or plan.language
            if case.messages is not None:
                yield generate(engine, messages=case.messages, language=language, settings=settings)
            else:
                yield generate(
                    engine, prompt=case.prompt, suffix=case.suffix, language=language,
                    settings=settings,
                )  # fmt: skip

    def watched(number: int, run: Run, step: Step) -> None:
        if control.cancelled:
            run.cancel()
            raise Cancelled("samples")

    made = {n: run.trace for n, run in together(begun(), watch=watched)}
    return sorted(made.items())


def sample_of(
    trace: Trace, number: int, seed: int | None, case: Case, plan: Plan, options: Options
) -> dict[str, Any]:  # fmt: skip
    """One sample as plain values; arrays become lists, NaN becomes null."""
    language = language_of(trace, case.language or plan.language or None)
    given = case.code is not None
    judged = _judged(trace, case)
    complete = given or trace.finish in ("eos", "stop")
    found = checked(trace.tokens, language, complete, judged, plan.checks, options)
    parses = None
    if "syntax" in plan.checks and not any(n.startswith("syntax: not judged") for n in found.notes):
        parses = not any(f.source == "syntax" for f in found.findings)
    return {
        "sample": number, "seed": seed, "language": language, "finish": trace.finish,
        "form": trace.origin.form,
        "n_prompt": 0 if given else trace.n_prompt, "parses": parses, **text_of(trace),
        "tokens": _tokens(trace), "statements": _statements(trace, given, case.changed, language),
        "findings": [f.to_json() for f in found.findings[:MOST_FINDINGS]],
        "alternatives": _alternatives(trace, found.findings[:MOST_FINDINGS]),
        "notes": list(dict.fromkeys(found.notes))[:20],
        "model": {"digest": trace.origin.model_digest, "dtype": trace.origin.dtype},
    }  # fmt: skip


def _add_risks(
    engine: Engine, trace: Trace, sample: dict[str, Any], plan: Plan, options: Options,
    known: set[str], control: Control,
) -> None:  # fmt: skip
    """The risk mass of every rule's first finding in a case, where the plan asks for it."""
    sample["risks"] = []
    if plan.risk is None or sample["language"] == "markdown":
        return
    for number, held in enumerate(sample["findings"]):
        if held["rule"] in known or held["source"] == "syntax":
            continue
        known.add(held["rule"])
        finding = Finding.from_json(held)
        try:
            made = risk(
                engine,
                trace,
                finding,
                options=options,
                control=Control(cancelled=_asks(control)),
                **plan.risk,
            ).to_json()
        except TokenScopeError as error:
            sample["notes"].append(f"risk of {held['rule']}: not enumerated: {error}")
            continue
        sample["risks"].append({**made, "findings": [number]})


def _asks(control: Control) -> Callable[[], bool]:
    return lambda: control.cancelled


def _add_drift(
    engine: Engine, baseline: Engine | None, trace: Trace, sample: dict[str, Any]
) -> None:
    """Drift over what was generated, or over the whole of given code."""
    if baseline is None:
        return
    try:
        sample["drift"] = drift_of(
            engine, baseline, trace, sample["language"], sample["n_prompt"] or 1
        )
    except CapacityError as error:
        sample["notes"].append(f"drift: not measured: {error}")


def _judged(trace: Trace, case: Case) -> Ranges | None:
    """The bytes whose findings count: what was changed, or what the model wrote."""
    if case.code is not None:
        return case.changed
    start = int(trace.tokens.offsets[trace.n_prompt])
    return ((start, max(len(trace.tokens.data), start + 1)),)


def _tokens(trace: Trace) -> dict[str, Any]:
    return {
        "ids": trace.ids.tolist(), "ends": trace.tokens.offsets[1:].tolist(),
        "labels": {str(k): v for k, v in trace.tokens.labels.items()},
        "surprisal": _plain(trace.column("surprisal")), "entropy": _plain(trace.column("entropy")),
    }  # fmt: skip


def text_of(trace: Trace) -> dict[str, str]:
    """The text, and its bytes where they are not UTF-8 (a character cut at the end)."""
    data = trace.tokens.data
    if trace.text.encode("utf-8", "replace") == data:
        return {"text": trace.text}
    return {"text": trace.text, "bytes": base64.b64encode(data).decode()}


def _plain(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [round(v, 5) if math.isfinite(v) else None for v in values.tolist()]


def _statements(trace: Trace, given: bool, changed: Ranges | None, language: str) -> list[float]:
    """The mean surprisal of every statement that was generated (or given and judged)."""
    made = rolled(trace, "surprisal", "statement", language=language,
                  part="all" if given else None)  # fmt: skip
    keep = np.isfinite(made.mean)
    if changed is not None:
        inside = np.zeros(len(keep), dtype=np.bool_)
        for a, b in changed:
            inside |= (made.groups.start < b) & (made.groups.end > a)
        keep &= inside
    return [round(v, 5) for v in made.mean[keep].tolist()]


def _alternatives(trace: Trace, findings: list[Finding]) -> dict[str, Any]:
    """What else could have stood at the tokens of findings: (text, logprob) by token index."""
    if trace.alternatives is None:
        return {}
    wanted = sorted({t for f in findings if f.tokens for t in range(*f.tokens)})[:2000]
    out = {}
    for t in wanted:
        row = trace.alternatives.row(t, int(trace.ids[t]))
        out[str(t)] = [
            [a.label or a.bytes.decode("utf-8", "replace"), round(float(a.logprob), 5), a.chosen]
            for a in row
            if math.isfinite(a.logprob)
        ]
    return out
