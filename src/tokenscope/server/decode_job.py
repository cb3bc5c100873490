"""Decoding as a job: journal before show, and the trace as far as it was shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel

from tokenscope.records import traced
from tokenscope.server import present, wire
from tokenscope.server.feed import Gap
from tokenscope.server.jobs import Job
from tokenscope.store import Part, Recording
from tokenscope.trace import Trace

if TYPE_CHECKING:
    from tokenscope.runs.generate import Run

LOOK_EVERY = 0.5  # seconds between two looks at the disk
PATIENCE = 1.0  # seconds that the disk may take before whoever watches is told


class Decode:
    """One run on its way to the store and to whoever watches."""

    def __init__(
        self, run: Run, recording: Recording, from_parent: bool, stored: Callable[[], Trace],
        held: ExitStack,
    ) -> None:  # fmt: skip
        self._run: Run | None = run  # None once it is over: it holds the model's memory
        self._held = held  # the model, until the run is over
        self._stored = stored  # the branch as far as it was written
        self._recording = recording
        self._from_parent = from_parent
        self._known: set[int] = set()
        shared = run.shared
        self._kept = len(shared) if shared is not None and from_parent else 0

    def cancel(self) -> None:
        """End within one step."""
        run = self._run
        if run is not None:
            run.cancel()

    def run(self, job: Job) -> None:
        """From ``start`` to ``end``."""
        run = self._run
        assert run is not None
        job.split = run.n_prompt
        start = wire.StartEvent(
            type="start", run=job.id, node=present.node(self._recording.node), shared=self._kept,
            total=run.total,
        )  # fmt: skip
        job.say(start, self._kept)
        if run.cost:
            job.step(0, run.total, run.cost)
        with told_of_the_disk(job, self._recording):
            with self._held:
                self._decode(run, job)
            trace = run.trace
            row = self._recording.finish(trace, trace.finish)
        job.record(traced(trace))
        self._run = None
        job.say(wire.EndEvent(type="end", finish=trace.finish, node=present.node(row)))

    def _decode(self, run: Run, job: Job) -> None:
        shared = run.shared
        if shared is not None and not self._from_parent and len(shared):
            # measured in an earlier run and used again: the page has not seen it in this branch
            values = {n: c.values for n, c in shared.columns.items()}
            self._keep(job, Part(
                0, shared.tokens, values, shared.alternatives, shared.attention,
                shared.n_prompt == len(shared),
                {n: c.quality for n, c in shared.columns.items()},
            ))  # fmt: skip
        for step in run:
            if len(step.tokens):
                self._keep(job, Part(
                    step.start, step.tokens, step.columns, step.alternatives, step.attention,
                    step.prompt, step.quality,
                ))  # fmt: skip
            if step.progress is not None:
                job.step(*step.progress, run.cost or "prompt")
            elif not step.prompt:  # the steps tell it; this is for who asks where the run stands
                job.progress = (step.end, run.total, "tokens")
            if job.cancelled():
                run.cancel()

    def _keep(self, job: Job, part: Part) -> None:
        """First written, then shown: what was shown is never lost."""
        grown = self._recording.append(part)
        self._kept = part.start + len(part.tokens)
        job.say(step_event(part, self._known), self._kept)
        if grown:
            job.say(wire.CommittedEvent(type="committed", tokens=self._recording.committed))

    def fail(self, job: Job) -> None:
        """What the journal holds becomes the branch."""
        try:
            self._recording.finish(None, "error")
        finally:
            job.record({**traced(self._recording.trace()), "finish": "error"})
            self._run = None

    def again(self, gap: Gap) -> list[BaseModel]:
        """The steps of a gap as one, with the bytes of all ids in it."""
        return [
            step_event(part, set()) for part in _prompt_and_rest(self._stored(), gap.start, gap.end)
        ]


@contextmanager
def told_of_the_disk(job: Job, recording: Recording) -> Iterator[None]:
    """While the block runs, a disk that does not answer is told of from a thread of its own: that
    of the run is the one that waits."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            if (seconds := recording.waiting) > PATIENCE:
                told = wire.WaitingEvent(type="waiting", seconds=round(seconds, 1))
                job.say(told, passing=True)

    thread = threading.Thread(target=look, name=f"disk-{job.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _prompt_and_rest(trace: Trace, start: int, end: int) -> list[Part]:
    """Tokens ``start..end-1`` as one part, or two where the prompt ends among them; without
    attention, which no event carries."""
    cut = min(max(trace.n_prompt, start), end)
    parts = []
    for lo, hi in ((start, cut), (cut, end)):
        if lo < hi:
            table = trace.alternatives
            parts.append(Part(
                lo, trace.tokens.slice(lo, hi),
                {n: c.values[lo:hi] for n, c in trace.columns.items()},
                table.slice(lo, hi) if table is not None else None, None, hi <= trace.n_prompt,
                {n: c.quality for n, c in trace.columns.items()},
            ))  # fmt: skip
    return parts


def step_event(part: Part, known: set[int]) -> wire.StepEvent:
    """A part as an event. ``known``: ids whose bytes the stream has sent; grows."""
    ids: list[list[int]] = [[] for _ in range(len(part.tokens))]
    logprobs: list[list[float]] = [[] for _ in range(len(part.tokens))]
    pieces: list[wire.Piece] = []
    if part.alternatives is not None:
        ids, logprobs = present.rows(part.alternatives)
        new = dict.fromkeys(i for row in ids for i in row if i not in known)
        known.update(new)
        pieces = present.pieces(part.alternatives, new)
    return wire.StepEvent(
        type="step", start=part.start, ids=part.tokens.ids.tolist(),
        bytes=list(present.encoded(part.tokens)),
        specials=[
            wire.SpecialToken(index=part.start + s.index, label=s.label)
            for s in present.specials(part.tokens)
        ],
        prompt=part.prompt,
        columns={n: present.numbers(v) for n, v in part.columns.items()},
        alternative_ids=ids, alternative_logprobs=logprobs, pieces=pieces,
    )  # fmt: skip
