"""An audit that is kept in a folder of its own: begun, gone on with, looked at, opened again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenscope import disk
from tokenscope.control import Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError, NotFound, StoreDamaged, TokenScopeError
from tokenscope.evidence import kept
from tokenscope.evidence.cases import Case, read_prompts
from tokenscope.evidence.figures import Figures
from tokenscope.evidence.kept import Asked, Kept
from tokenscope.evidence.policy import Policy, policy_text
from tokenscope.evidence.report import MOST, Report
from tokenscope.evidence.review import CaseRow, Worst, tokens_of
from tokenscope.runs.audit import audit, gather, plan_of
from tokenscope.runs.audit_result import Audit
from tokenscope.runs.generate import begin as begin_run
from tokenscope.runs.model import Model
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.origin import Request


@dataclass(frozen=True)
class Look:
    """``report``: of what the journal holds by now; ``rows``: the worst of ``total`` cases."""

    report: Report
    rows: list[CaseRow]
    total: int


def begin(
    root: Path, model: Model, prompts: bytes, name: str, policy: str = "",
    sampling: Mapping[str, Any] = {}, title: str = "",
) -> Path:  # fmt: skip
    """A folder below ``root`` for an audit of ``prompts`` (``name``: as what file).

    All that can be refused is refused now. Raises InputError, UnknownName, StoreError.
    """
    asked = contained(policy_text(policy.encode()))
    plan = plan_of(asked, sampling)
    Figures.check((g.figure for g in asked.gates), risk=asked.risk is not None)
    plan.options()
    info = model.info
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = Asked(title, info.name, info.model_digest, info.dtype, now, name, 0, dict(sampling))
    folder = kept.new(root, told, prompts, policy.encode())
    try:
        cases = sum(isinstance(e, Case) for e in read_prompts(folder / name))
        if not cases:
            raise InputError("prompts", "hold no case: a prompt a line, as JSON")
        kept.tell(folder, Asked(**{**told.__dict__, "cases": cases}))
    except TokenScopeError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def contained(policy: Policy) -> Policy:
    """A policy that comes over the wire names no file and no program of this machine.

    Raises InputError.
    """
    if set(policy.rules) - {"starter"}:
        raise InputError("policy: rules", "here only the pack that ships: starter")
    if policy.semgrep or "semgrep" in policy.checks:
        raise InputError("policy: semgrep", "runs from the command line only")
    return policy


def go(model: Model, held: Kept, control: Control) -> Audit:
    """Do what is missing of an audit that was begun. Raises what ``audit`` raises, Cancelled."""
    if held.asked is None:
        raise InputError("audit", "was not begun here; go on with it where it was")
    disk.remove(held.folder / kept.ENDED)
    return audit(
        held.folder / held.asked.prompts, model=model, policy=contained(held.policy),
        out=held.folder, code=False, control=control, **held.asked.sampling,
    )  # fmt: skip


def look(held: Kept) -> Look:
    """What there is of it by now, whether it has ended or not. Raises NotFound, InputError,
    StoreDamaged."""
    worst = Worst()
    first, total = kept.refused(held.folder, MOST)
    if not (held.folder / kept.JOURNAL).is_file():
        raise NotFound("the audit has no case yet")
    try:
        report = gather(held.folder, held.policy, first, total, worst.add)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise StoreDamaged(held.folder / kept.JOURNAL, "is not the journal of an audit") from error
    return Look(report, worst.rows, worst.total)


def reopened(engine: Engine, sample: Mapping[str, Any], tokenizer: str) -> Run:
    """A sample of the journal as a run: its very tokens, measured in one pass.

    Teacher forcing, so that the ids are those of the audit whatever the sampler would draw today.
    ``tokenizer``: the digest of the one that made them. Raises InputError where another is loaded.
    """
    if tokenizer != engine.info.tokenizer_digest:
        raise InputError("sample", "was made with another tokenizer")
    tokens = tokens_of(sample)
    return begin_run(
        engine, tokens, "score", Settings(max_new_tokens=0, attention="none"),
        language=sample["language"], n_prompt=sample["n_prompt"] or None,
        request=Request(prompt=tokens.data.decode("utf-8", "replace"),
                        start_token=tokens.labels.get(0, "")),
    )  # fmt: skip
