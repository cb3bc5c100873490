"""Cases shared out over processes on one machine, each with a model of its own.

Results come back in the order of the cases. A process that dies takes nothing with it: its cases
are done again by a new one, and a case that brings processes down twice is recorded as an error.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import TokenScopeError
from tokenscope.evidence.cases import Case
from tokenscope.evidence.check import Options
from tokenscope.runs.audit_case import Plan, audit_case
from tokenscope.runs.model import Model, load

AHEAD = 4  # cases per process that are under way or waiting
TRIES = 2


@dataclass(frozen=True, slots=True)
class Opening:
    """How another process opens the model: the arguments of ``load``."""

    address: str
    dtype: str | None = None
    device: str | None = None
    start_token: str = "auto"
    allow_links: bool = False


def here(
    engine: Engine, cases: Iterable[Case], plan: Plan, baseline: Engine | None = None,
    control: Control = QUIET,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The records of the cases, made in this process. Raises Cancelled."""
    options = plan.options()
    for case in cases:
        yield audit_case(engine, case, plan, options, baseline, control)


def shared_out(
    opening: Opening,
    cases: Iterable[Case],
    plan: Plan,
    processes: int,
    baseline: Opening | None = None,
) -> Iterator[dict[str, Any]]:
    """The records of the cases in their order, made by ``processes`` processes."""
    waiting = iter(cases)
    under: deque[tuple[Case, int, Future[dict[str, Any]] | None]] = deque()
    how = (opening, plan, processes, baseline)
    pool = _pool(*how)
    try:
        while True:
            while len(under) < AHEAD * processes and (case := next(waiting, None)) is not None:
                under.append((case, 1, _submit(pool, case)))
            if not under:
                return
            case, tries, future = under[0]
            try:
                if future is None:
                    raise BrokenProcessPool
                record = future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool(*how)
                if tries >= TRIES:
                    under.popleft()
                    yield died(case)
                else:
                    under[0] = (case, tries + 1, None)
                # only the first is blamed: it was under way, of the others nobody knows
                under = deque((c, n, _submit(pool, c)) for c, n, _ in under)
                continue
            under.popleft()
            yield record
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, case: Case) -> Future[dict[str, Any]] | None:
    try:
        return pool.submit(_work, case)
    except BrokenProcessPool:
        return None


def _pool(
    opening: Opening, plan: Plan, processes: int, baseline: Opening | None
) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _open,
        (opening, plan, processes, baseline),
    )  # fmt: skip


_STATE: dict[str, Any] = {}


def _open(opening: Opening, plan: Plan, processes: int, baseline: Opening | None) -> None:
    """In a process: the models and the checks, once."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    other = None if baseline is None else opened(baseline)
    options: Options = plan.options()
    _STATE.update(model=opened(opening), plan=plan, options=options, baseline=other)


def opened(opening: Opening) -> Model:
    """The model. Raises ModelError, InputError."""
    return load(
        opening.address, dtype=opening.dtype, device=opening.device,
        start_token=opening.start_token,  # type: ignore[arg-type]
        allow_links=opening.allow_links,
    )  # fmt: skip


def _work(case: Case) -> dict[str, Any]:
    return audit_case(_STATE["model"], case, _STATE["plan"], _STATE["options"], _STATE["baseline"])


def died(case: Case) -> dict[str, Any]:
    error = TokenScopeError("the process that did it died twice")
    return {
        "case": case.id, "path": case.path, "line": case.line,
        "form": "code" if case.code is not None else "prompt",
        "error": {"code": error.code, "message": str(error)}, "samples": [], "changed": None,
    }  # fmt: skip
