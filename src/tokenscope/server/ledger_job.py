"""A ledger as a job: what will be decoded, arm by arm as it is measured, which stand out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tokenscope.control import Control
from tokenscope.errors import NotFound
from tokenscope.runs.arms import MEANINGS, Arm, Ledger, stands_out
from tokenscope.runs.ledger import LedgerJob
from tokenscope.server import ledger_wire as wire
from tokenscope.server.explain_job import Asking

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tokenscope.server.feed import Gap
    from tokenscope.server.jobs import Job

KEPT = 8  # ledgers that can be fetched as files


class Ledgers:
    """The last ledgers, by run; without their traces."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Ledger] = OrderedDict()

    def keep(self, run: str, found: Ledger) -> None:
        """Keep one; the oldest goes."""
        with self._lock:
            self._held[run] = Ledger(found.arms, found.prompts, found.draws, found.outcome)
            while len(self._held) > self._most:
                self._held.popitem(last=False)

    def get(self, run: str) -> Ledger:
        """Raises NotFound when it is not kept any more, or not done."""
        with self._lock:
            held = self._held.get(run)
        if held is None:
            raise NotFound("no such ledger is kept")
        return held


class Arms(Asking[LedgerJob]):
    """The arms as they come. Its log counts arms where others count tokens."""

    def __init__(
        self, make: Callable[[Control], LedgerJob], held: ExitStack, kept: Ledgers
    ) -> None:  # fmt: skip
        super().__init__(make, held)
        self._kept = kept

    def work(self, job: Job) -> None:
        """``start``, an ``arm`` each, and ``ledger``."""
        asked = self.asked
        job.say(
            wire.LedgerStart(
                type="start", run=job.id, model=asked.engine.info.name, arms=list(asked.asked),
                prompts=len(asked.prompts), draws=asked.draws, runs=asked.runs,
                outcome=asked.outcome,
                definitions=[wire.LedgerDefinition(name=n, text=t) for n, t in MEANINGS.items()],
            )
        )  # fmt: skip
        for n, found in enumerate(asked.arms(), 1):
            job.say(arm(found), tokens=n)
        made = asked.result()
        self._kept.keep(job.id, made)
        job.say(end(made), tokens=len(made.arms))

    def again(self, gap: Gap) -> list[BaseModel]:
        """Arms that fell out of the log, and the end after the last."""
        made = self.asked.result()
        found: list[BaseModel] = [arm(a) for a in made.arms[gap.start : gap.end]]
        return [*found, end(made)] if gap.end == len(self.asked.asked) else found


def arm(found: Arm) -> wire.LedgerArm:
    """An arm as an event."""
    plain = found.to_json()
    return wire.LedgerArm(
        type="arm", name=found.name, outcomes=plain["outcomes"], damage=plain["damage"],
        figures=[
            wire.LedgerFigure(name=n, value=v, against_none=plain["against_none"][n])
            for n, v in plain["means"].items()
        ],
    )  # fmt: skip


def end(made: Ledger) -> wire.LedgerDone:
    """Which arms stand out."""
    return wire.LedgerDone(
        type="ledger", stands_out=[n for n, out in stands_out(made.arms).items() if out]
    )
