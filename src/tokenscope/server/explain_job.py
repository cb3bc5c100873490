"""An explanation as a job: progress, the attribution, one table after another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, TypeVar

from pydantic import BaseModel

from tokenscope.control import Control
from tokenscope.runs.explain import Explaining, Explanation
from tokenscope.server import explain_wire as wire
from tokenscope.server.feed import Gap
from tokenscope.server.jobs import Job
from tokenscope.server.wire import DoneEvent

T = TypeVar("T")


class Asking(Generic[T]):
    """A job that works through one question and keeps nothing of it in the store.

    ``make`` gets progress and cancel; what it makes has been checked already. ``held`` holds the
    model until the job is over.
    """

    def __init__(self, make: Callable[[Control], T], held: ExitStack) -> None:
        self._held = held
        self._job: Job | None = None
        # made here, so that a bad request is refused before there is a job
        self.asked = make(Control(self._progress, self._cancelled))

    def run(self, job: Job) -> None:
        """From ``start`` to ``done``."""
        self._job = job
        with self._held:
            self.work(job)
            job.record({"finish": "done"})
            job.say(DoneEvent(type="done", finish="done"))

    def work(self, job: Job) -> None:
        """Say everything between; by kind of job."""
        raise NotImplementedError

    def cancel(self) -> None:
        """It asks between its pieces of work."""

    def fail(self, job: Job) -> None:
        """Nothing is kept of it."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """Nothing falls out: such a job has few events."""
        return []

    def _progress(self, done: int, total: int, what: str) -> None:
        if self._job is not None:
            self._job.step(done, total, what)

    def _cancelled(self) -> bool:
        return self._job is not None and self._job.cancelled()


class Explain(Asking[Explaining]):
    """The attribution, then one table after another."""

    def work(self, job: Job) -> None:
        """``start``, ``attribution``, and a ``table`` each."""
        also = self.asked.also
        job.say(wire.ExplainStart(type="start", run=job.id, tables=list(also)))
        made = self.asked.attribution()
        job.say(attribution(made))
        for name in also:
            table = self.asked.table(made, name)
            job.say(
                wire.TableEvent(
                    type="table", name=name, rows=table.plain(),
                    definitions=list(table.definitions), note=table.note, refused=table.refused,
                )
            )  # fmt: skip


def attribution(made: Explanation) -> wire.AttributionEvent:
    """An explanation without its tables, as an event."""
    plain = made.to_json()
    return wire.AttributionEvent(
        type="attribution", sentence=made.sentence, at=made.target.at, token=made.token,
        token_id=made.target.a, contrast=made.contrast, contrast_id=made.target.b,
        target=made.target.kind, method=made.method, value=made.value, gap=made.gap,
        converged=made.converged, note=made.note, logprob=made.logprob_a,
        logprob_contrast=made.logprob_b,
        values=[row["value"] for row in plain["tokens"]],
        reasons=[wire.ReasonInfo(**reason) for reason in plain["reasons"]],
        evidence=None if made.evidence is None else wire.EvidenceInfo(**plain["evidence"]),
        beside=made.beside,
    )  # fmt: skip
