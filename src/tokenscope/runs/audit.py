"""An audit: many cases through the model and the checks, gates over what comes, reports.

Cases are journalled one at a time (``evidence.records``), in their order, so an audit that was
killed goes on where it was, and the reports of a resumed one are those of one that was not.
Cases may be shared out over processes: seeds belong to cases, so who does a case changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenscope import disk
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.evidence.cases import Case, Entry, Refused, count_lines, is_prompts, read_prompts
from tokenscope.evidence.check import CHECKS, Code
from tokenscope.evidence.figures import Figures
from tokenscope.evidence.policy import Policy, policy_of, read_policy
from tokenscope.evidence.records import Records, key, read_records
from tokenscope.evidence.report import FORMATS, MOST, WRITERS, Report, collect
from tokenscope.evidence.sources import read_code, read_diff
from tokenscope.records import FOLDER, RecordLog, digests, somebody
from tokenscope.runs.audit_case import Plan
from tokenscope.runs.audit_pool import Opening, here, shared_out
from tokenscope.runs.audit_ray import over_ray
from tokenscope.runs.audit_result import Audit
from tokenscope.runs.drift import alike
from tokenscope.runs.model import Model, load
from tokenscope.runs.settings import Settings

MOST_SAMPLES = 10_000


def audit(
    source: str | Path | Iterable[str | Mapping[str, Any]],
    *,
    model: Model | None = None,
    policy: Policy | str | Path | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    formats: Sequence[str] = (),
    code: bool | None = None,
    git_diff: str = "",
    processes: int = 1,
    engine: str = "local",
    fresh: bool = False,
    opening: Opening | None = None,
    baseline: Model | None = None,
    control: Control = QUIET,
    **settings: Any,
) -> Audit:
    """Audit prompts, or code that exists.

    ``source``: a JSONL or CSV file, a folder, a source file; or prompts themselves (texts, or
    mappings with ``prompt``, ``messages``, ``code``, ``id``, ``language``). ``code``: whether a
    file or folder is code to measure rather than prompts to continue (None: by its names).
    ``git_diff``: ``BASE..HEAD`` in the repository ``source``; what changed is judged. ``policy``:
    a TOML file, or its values (see ``evidence.policy``). ``out``: the folder of journal and
    reports; None: one that goes with the result. ``settings``: ``samples``, ``temperature``,
    ``seed``, ``max_new_tokens`` ... over what the policy says. ``opening``: how other processes
    open the model. ``engine``: ``local`` processes, or ``ray``: as many actors of a Ray cluster
    (RAY_ADDRESS, else one of this machine's own). ``baseline``: the build that was approved:
    drift from it is measured. Raises InputError, UnknownName, MissingError, StoreError, Cancelled.
    """
    wanted = _policy(policy)
    plan = plan_of(wanted, settings)
    for name in formats:
        WRITERS.get(name)
    if not 1 <= processes <= 256:
        raise InputError("processes", "must lie in 1..256")
    if engine not in ("local", "ray"):
        raise InputError("engine", "must be local or ray")
    risk = plan.risk is not None
    Figures.check((g.figure for g in wanted.gates), baseline is not None, risk)
    options = plan.options()  # a rule pack that cannot be read is told before a model is loaded
    if "semgrep" in plan.checks:  # and so is a program that is not there
        CHECKS.get("semgrep")(Code(b"", "text"), options)
    entries, total, digest = _source(source, code, git_diff, wanted.language)
    used = load() if model is None else model
    keep = None if out is not None else tempfile.TemporaryDirectory(prefix="tokenscope-audit-")
    folder = Path(out) if out is not None else Path(keep.name)  # type: ignore[union-attr]
    disk.make_folder(folder)
    header = _header(used, plan, digest)
    if baseline is not None:
        alike(used, baseline)
        header["baseline"] = _named(baseline)
    records = Records(folder, header, fresh)
    refused = _Refusals(folder, wanted.on_error == "stop")
    try:
        todo = (e for e in refused.taken(entries) if key(e.id) not in records.done)
        if engine == "ray":
            how, other = opening or _opening(used), None if baseline is None else _opening(baseline)
            done = over_ray(how, todo, plan, processes, other)
        elif processes == 1:
            done = here(used, todo, plan, baseline, control)
        else:
            how = opening or _opening(used)
            other = None if baseline is None else _opening(baseline)
            done = shared_out(how, todo, plan, processes, other)
        begun = len(records.done)
        control.step(begun, max(total, begun), "cases")
        for n, record in enumerate(done, begun + 1):
            records.add(record)
            control.step(n + refused.total, max(total, n + refused.total), "cases")
        # what could not be read is told even when nothing was left to do
        for _ in todo:
            pass
    finally:
        records.close()
        refused.close()
    if not records.done and not refused.total:
        raise InputError("PROMPTS", "holds no case")
    report = gather(folder, wanted, refused.kept, refused.total)
    written = write(report, folder, formats)
    _record(folder, header, report)
    return Audit(report, written, wanted.on_error == "skip", keep)


def _record(folder: Path, header: Mapping[str, Any], report: Report) -> None:
    """What was audited, the verdicts, and the digest of every file: `tokenscope verify` compares.

    Raises StoreError; StoreDamaged where the records of an earlier run in this folder were bent.
    """
    summary = report.summary()
    told = {**header, "gates": summary.get("gates", []), "files": digests(folder)}
    RecordLog(folder / FOLDER).append("audit", told, f"{somebody()} (audit)")


def plan_of(policy: Policy, settings: Mapping[str, Any]) -> Plan:
    """The plan that a policy and settings over it make. Raises InputError."""
    held = {**policy.sampling, **settings}
    samples = held.pop("samples", 1)
    if (
        isinstance(samples, bool)
        or not isinstance(samples, int)
        or not 1 <= samples <= MOST_SAMPLES
    ):
        raise InputError("samples", f"must be a whole number in 1..{MOST_SAMPLES}")
    seed = held.pop("seed", 0)
    if unknown := sorted(set(held) - set(Settings.__dataclass_fields__)):
        raise InputError("settings", f"unknown setting {unknown[0][:40]!r}")
    held.setdefault("temperature", 0.8 if samples > 1 else 0.0)
    held["stop"] = tuple(held.get("stop", ()))
    made = Settings(**{**held, "seed": seed})
    if made.temperature == 0.0:
        samples = 1  # greedy: every further sample would be the same one
    return Plan(
        policy.checks, samples, seed,
        {k: getattr(made, k) for k in ("max_new_tokens", "temperature", "top_k", "top_p", "min_p",
                                       "repetition_penalty", "stop", "alternatives")},
        policy.language, policy.allow, policy.project, policy.rules, policy.semgrep,
        policy.risk,
    )  # fmt: skip


def gather(
    folder: Path, policy: Policy, refused: Sequence[dict[str, Any]] = (), total: int = 0,
    each: Callable[[Mapping[str, Any]], None] | None = None,
) -> Report:  # fmt: skip
    """The report of what the journal of ``folder`` holds; ``each`` is told every case on the way.

    Raises InputError, UnknownName.
    """
    header, held = read_records(folder)
    cases = held if each is None else _told(held, each)
    figures = Figures()
    figures.refused = total
    worst, groups, errors = collect(cases, figures, MOST)
    verdicts = policy.judge(figures.figure)
    said = [*refused, *errors][:MOST]
    return Report(
        folder, header, figures, verdicts, worst, groups, said, total + figures.errors
    )  # fmt: skip


def _told(
    cases: Iterable[dict[str, Any]], each: Callable[[Mapping[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    for case in cases:
        each(case)
        yield case


def write(report: Report, folder: Path, formats: Sequence[str] = ()) -> dict[str, Path]:
    """``audit.json`` and every report asked for (all, where none is). Raises StoreError."""
    summary = json.dumps(report.summary(), allow_nan=False, indent=1)
    disk.write_whole(folder / "audit.json", [summary.encode(), b"\n"])
    return {name: WRITERS.get(name)(report, folder) for name in formats or FORMATS}


def _policy(given: Policy | str | Path | Mapping[str, Any] | None) -> Policy:
    if given is None:
        return Policy()
    if isinstance(given, Policy):
        return given
    return policy_of(given) if isinstance(given, Mapping) else read_policy(Path(given))


def _source(
    source: str | Path | Iterable[Any], code: bool | None, git_diff: str, language: str
) -> tuple[Iterator[Entry], int, str]:
    """(entries, about how many, a digest of what was given)."""
    if git_diff:
        if not isinstance(source, (str, Path)):
            raise InputError("git_diff", "needs the folder of a repository")
        held: list[Entry] = list(read_diff(Path(source), git_diff))
        return iter(held), len(held), _digest_of(held)
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise InputError("PROMPTS", "there is no such file or folder")
        if code is False or (code is None and is_prompts(path)):
            digest = _digest_of(list(read_prompts(path))) if path.is_dir() else _of_file(path)
            return read_prompts(path), count_lines(path), digest
        held = list(read_code(path, language))
        return iter(held), len(held), _digest_of(held)
    held = [_given(n, e) for n, e in enumerate(source)]
    return iter(held), len(held), _digest_of(held)


def _given(number: int, value: Any) -> Entry:
    """A case from Python: a Case, a prompt, or a mapping."""
    if isinstance(value, (Case, Refused)):
        return value
    if isinstance(value, str):
        value = {"prompt": value}
    known = {k: v for k, v in dict(value).items() if k in Case.__dataclass_fields__}
    known["id"] = str(known.get("id", number))
    if sum(known.get(k) is not None for k in ("prompt", "messages", "code")) != 1:
        raise InputError(f"source[{number}]", "needs exactly one of prompt, messages and code")
    return Case(**known)


def _digest_of(held: list[Entry]) -> str:
    text = json.dumps([e.to_json() for e in held], default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _of_file(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _header(engine: Model, plan: Plan, digest: str) -> dict[str, Any]:
    info = engine.info
    packs = hashlib.sha256()
    for name in plan.rules:
        path = Path(name)
        for file in sorted(path.glob("*.y*ml")) if path.is_dir() else [path] * path.is_file():
            packs.update(file.read_bytes())
    settings = {
        **plan.settings, "samples": plan.samples, "seed": plan.seed, "checks": plan.checks,
        "risk": None if plan.risk is None else dict(plan.risk),
        "language": plan.language, "allow": plan.allow, "project": plan.project,
        "rules": [Path(r).name for r in plan.rules],
        "rules_digest": packs.hexdigest() if plan.rules else "",
    }  # fmt: skip
    return {
        "model": info.name, "model_digest": info.model_digest,
        "tokenizer_digest": info.tokenizer_digest, "dtype": info.dtype, "backend": info.backend,
        "source_digest": digest, "settings": settings, "versions": dict(info.versions),
        "errors": dict(info.errors), "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _opening(model: Model) -> Opening:
    return Opening(model.path, model.info.dtype, model.info.device)


def _named(model: Model) -> dict[str, Any]:
    info = model.info
    return {"model": info.name, "model_digest": info.model_digest, "dtype": info.dtype}


class _Refusals:
    """What is no case: kept in ``errors.jsonl``, the first of them in memory."""

    def __init__(self, folder: Path, stop: bool) -> None:
        self.total = 0
        self.kept: list[dict[str, Any]] = []
        self._stop = stop
        self._path = folder / "errors.jsonl"
        self._file = disk.create(self._path)

    def taken(self, entries: Iterable[Entry]) -> Iterator[Case]:
        """The cases among the entries. Raises InputError at the first other one, if asked to."""
        for entry in entries:
            if isinstance(entry, Case):
                yield entry
                continue
            if self._stop:
                at = f" line {entry.line}" if entry.line else ""
                raise InputError(f"{entry.where}{at}", entry.reason)
            self.total += 1
            if len(self.kept) < MOST:
                self.kept.append(entry.to_json())
            line = json.dumps(entry.to_json(), ensure_ascii=True) + "\n"
            disk.write(self._file, line.encode(), self._path)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)
