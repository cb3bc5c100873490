"""Cases shared out over a Ray cluster: actors with a model of their own, on this machine or others.

The records and their order are those of a local run: seeds belong to cases. An actor that dies is
replaced, its cases are done again, and a case that brings two down is recorded as an error. On
other machines the model must lie at the same path.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from tokenscope.errors import MissingError, RemoteError
from tokenscope.evidence.cases import Case
from tokenscope.runs.audit_case import Plan, audit_case
from tokenscope.runs.audit_pool import AHEAD, TRIES, Opening, died, opened


class Auditor:
    """In a worker: the models and the checks, once."""

    def __init__(self, opening: Opening, plan: Plan, share: int, baseline: Opening | None) -> None:
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // share))
        self._model = opened(opening)
        self._baseline = None if baseline is None else opened(baseline)
        self._plan, self._options = plan, plan.options()

    def work(self, case: Case) -> dict[str, Any]:
        """The record of a case."""
        return audit_case(self._model, case, self._plan, self._options, self._baseline)


def over_ray(
    opening: Opening, cases: Iterable[Case], plan: Plan, workers: int,
    baseline: Opening | None = None, address: str | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The records of the cases in their order, made by ``workers`` actors.

    ``address``: of a running cluster; None: RAY_ADDRESS, else a cluster of this machine for as long
    as it takes. Raises MissingError without ray, RemoteError when the cluster is lost.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayActorError, RayError
    except ImportError:
        raise MissingError("ray is not installed: pip install 'tokenscope[ray]'") from None
    mine = not ray.is_initialized()
    if mine:
        where = address or os.environ.get("RAY_ADDRESS")
        own: dict[str, Any] = {} if where else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(address=where, log_to_driver=False, **own)
        except (ConnectionError, RuntimeError, OSError) as error:
            raise RemoteError("the Ray cluster cannot be reached, or not be started") from error
    remote = ray.remote(num_cpus=1, max_restarts=0)(Auditor)
    share = workers if mine and not address else 1

    def begun() -> Any:
        return remote.remote(opening, plan, share, baseline)

    actors = [begun() for _ in range(workers)]
    waiting = iter(cases)
    under: deque[tuple[Case, int, int, Any]] = deque()  # case, tries, actor, what will come
    free = 0
    try:
        while True:
            while len(under) < AHEAD * workers and (case := next(waiting, None)) is not None:
                under.append((case, 1, free % workers, actors[free % workers].work.remote(case)))
                free += 1
            if not under:
                return
            case, tries, n, coming = under[0]
            try:
                record: dict[str, Any] = ray.get(coming)
            except RayActorError:
                actors[n] = begun()
                if tries >= TRIES:
                    under.popleft()
                    yield died(case)
                else:
                    under[0] = (case, tries + 1, n, None)
                # only the first is blamed: it was under way, of the others nobody knows
                under = deque(
                    (c, k, m, actors[n].work.remote(c) if m == n else what)
                    for c, k, m, what in under
                )
                continue
            except RayError as error:
                raise RemoteError("the Ray cluster failed; the journal holds what was done") from (
                    error
                )
            under.popleft()
            yield record
    finally:
        for actor in actors:
            ray.kill(actor)
        if mine:
            ray.shutdown()
