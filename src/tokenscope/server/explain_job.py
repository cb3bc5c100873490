"""An explanation as a job: progress, the attribution, one table after another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from pydantic import BaseModel

from tokenscope.control import Control
from tokenscope.runs.explain import Explaining, Explanation
from tokenscope.server import explain_wire as wire
from tokenscope.server.feed import Gap
from tokenscope.server.jobs import Job
from tokenscope.server.wire import DoneEvent


class Explain:
    """``make`` gets progress and cancel; what it makes has been checked already."""

    def __init__(self, make: Callable[[Control], Explaining], held: ExitStack) -> None:
        self._held = held  # the model, until the job is over
        self._job: Job | None = None
        # made here, so that a bad request is refused before there is a job
        self._explaining = make(Control(self._progress, self._cancelled))

    def run(self, job: Job) -> None:
        """From ``start`` to ``done``."""
        self._job = job
        with self._held:
            self._explain(job)

    def _explain(self, job: Job) -> None:
        also = self._explaining.also
        job.say(wire.ExplainStart(type="start", run=job.id, tables=list(also)))
        made = self._explaining.attribution()
        job.say(attribution(made))
        for name in also:
            table = self._explaining.table(made, name)
            job.say(
                wire.TableEvent(
                    type="table", name=name, rows=table.plain(),
                    definitions=list(table.definitions), note=table.note, refused=table.refused,
                )
            )  # fmt: skip
        job.say(DoneEvent(type="done", finish="done"))

    def cancel(self) -> None:
        """It asks between its pieces of work."""

    def fail(self, job: Job) -> None:
        """Nothing is kept of it."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """Nothing falls out: an explanation has few events."""
        return []

    def _progress(self, done: int, total: int, what: str) -> None:
        if self._job is not None:
            self._job.step(done, total, what)

    def _cancelled(self) -> bool:
        return self._job is not None and self._job.cancelled()


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
