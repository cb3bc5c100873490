"""Who feeds the model, when, and together with whom.

No thread of its own: whoever iterates a run drives. Of several threads one *leads* at a time; it
makes one round - everything that waits is fed in one ``extend_many`` - hands each run its Steps,
and passes the lead to whoever has waited longest. Long feeds (chunks of prompts) go together,
too, short ones in one pass, but not with steps, so that those come between them. An explanation
leads as well, while it holds the turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from tokenscope.backends.protocol import Backend, Feed, Full, stepper
from tokenscope.control import Control
from tokenscope.decode.draws import draws
from tokenscope.decode.machine import Answer, Back, Draw, Drawn, Event, Keep, Machine, Take, Weigh
from tokenscope.decode.prefixes import Prefixes
from tokenscope.decode.step import Step
from tokenscope.errors import TokenScopeError
from tokenscope.metrics.measure import Measured, measure
from tokenscope.trace.record import Finish

SMALL = 8  # tokens of a feed that goes together with others
WIDEST = 32  # feeds of one pass
TOGETHER = 256  # tokens of prompts that go together; of more, nothing is gained by it
AHEAD = 2  # results made for a run in another thread that is busy with its last


class Task:
    """One machine in the scheduler's care.

    ``resting``: it has handed out a result and is to be woken before it asks for more.
    ``together``: one thread iterates it in turn with others (``runs.many``).
    """

    def __init__(self, machine: Machine, control: Control) -> None:
        self.machine = machine
        self.control = control
        self.ready: deque[Step | Finish | BaseException] = deque()
        self.events = machine.events()
        self.pending: Event | None = None  # the Feed, Draw or Weigh that it waits for
        self.resting = True
        self.begun = self.ended = False
        self.thread = 0
        self.waiting = False
        self.together = False


class _Waiter:
    """Somebody in the queue for the lead: a run that wants its next result, or a turn."""

    __slots__ = ("leads", "task", "woken")

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.woken = threading.Event()
        self.leads = False


class Scheduler:
    """The turns at one model."""

    def __init__(self, backend: Backend, prefixes: Prefixes) -> None:
        self._backend = backend
        self._prefixes = prefixes
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._led = False
        self._tasks: list[Task] = []

    # --- runs ----------------------------------------------------------------------------------
    def add(self, task: Task) -> None:
        """Take a run into care."""
        with self._lock:
            self._tasks.append(task)

    def remove(self, task: Task) -> None:
        """The run has ended, or nobody iterates it any more."""
        with self._lock:
            if task in self._tasks:
                self._tasks.remove(task)

    def crowded(self, mine: Task) -> bool:
        """Whether other runs are being decoded beside it, so that their steps fill a pass."""
        return any(
            t is not mine and t.begun and not t.ended and (t.together or t.thread != mine.thread)
            for t in self._tasks
        )

    def next(self, task: Task) -> Step | Finish:
        """The run's next result; waits, or leads rounds until there is one. Raises its errors."""
        task.thread = threading.get_ident()
        while True:
            with self._lock:
                if task.ready:
                    found = task.ready.popleft()
                    if isinstance(found, BaseException):
                        raise found
                    return found
                task.waiting = True
            try:
                if self._lead_or_wait(task):
                    try:
                        self._round(task)
                    finally:
                        self._pass_on()
            finally:
                task.waiting = False

    # --- the lead ------------------------------------------------------------------------------
    def __enter__(self) -> Scheduler:
        """The turn: nothing is fed while it is held. First come, first served."""
        self._lead_or_wait(None)
        return self

    def __exit__(self, *error: object) -> None:
        self._pass_on()

    def _lead_or_wait(self, task: Task | None) -> bool:
        """True: this thread leads now. False: another's round has made something for the task."""
        with self._lock:
            if not self._led and not self._queue:
                self._led = True
                return True
            mine = _Waiter(task)
            self._queue.append(mine)
            if not self._led:
                self._wake_first()
        try:
            mine.woken.wait()
        except BaseException:  # interrupted while waiting: whoever is behind must not wait for us
            with self._lock:
                if mine in self._queue:
                    self._queue.remove(mine)
                leads = mine.leads
            if leads:
                self._pass_on()
            raise
        return mine.leads

    def _pass_on(self) -> None:
        with self._lock:
            self._led = False
            for waiter in [w for w in self._queue if w.task is not None and w.task.ready]:
                self._queue.remove(waiter)
                waiter.woken.set()
            self._wake_first()

    def _wake_first(self) -> None:
        if self._queue:
            first = self._queue.popleft()
            self._led = first.leads = True
            first.woken.set()

    # --- a round -------------------------------------------------------------------------------
    def _round(self, mine: Task) -> None:
        """One pass, or whatever else it takes to get ``mine`` on."""
        tasks = self._company(mine)
        for task in tasks:
            if task.resting:
                task.begun = True
                self._advance(task, None)
            if task.control.cancelled and isinstance(task.pending, Feed):
                self._advance(task, None)
        self._settle(tasks)
        if mine.ready:
            return
        tasks = [t for t in tasks if isinstance(t.pending, Feed)]
        self._feed(_pass(mine, [t for t in tasks if t is not mine]))
        self._settle(tasks)

    def _settle(self, tasks: Sequence[Task]) -> None:
        """Whatever they ask for that needs no feed."""
        while True:
            if drawing := [t for t in tasks if isinstance(t.pending, Draw)]:
                self._draw(drawing)
            elif weighing := [t for t in tasks if isinstance(t.pending, Weigh)]:
                self._weigh(weighing)
            else:
                return

    def _company(self, mine: Task) -> list[Task]:
        """The tasks that are to get on now: those that wait, and some that will want to soon."""

        def wants(task: Task) -> bool:
            if task.ended or task is mine:
                return False
            if task.together:
                return not task.ready
            if task.thread == mine.thread:
                return False  # left in the middle by the thread that leads
            return task.waiting or (task.begun and len(task.ready) < AHEAD)

        with self._lock:
            return [mine, *(t for t in self._tasks if wants(t))]

    def _feed(self, tasks: Sequence[Task]) -> None:
        feeds = [t.pending for t in tasks if isinstance(t.pending, Feed)]
        began = time.perf_counter()
        try:
            outs = stepper(self._backend).extend_many(feeds)
        except TokenScopeError as error:  # refused before anything was done: find out whose it is
            if len(tasks) == 1:
                self._fail(tasks[0], error)
                return
            for task in tasks:
                self._feed([task])
            return
        except BaseException as error:
            for task in tasks:  # their memories may be half written
                self._fail(task, error)
            if not isinstance(error, Exception):
                raise
            return
        ms = (time.perf_counter() - began) * 1e3
        total = sum(len(f.ids) for f in feeds)
        for task, feed, out in zip(tasks, feeds, outs, strict=True):
            # of chunks each has its share of the time; a step has waited for all of them
            share = 1.0 if len(feed.ids) <= SMALL else len(feed.ids) / total
            self._advance(task, Answer(out, ms * share))

    def _draw(self, tasks: Sequence[Task]) -> None:
        """The draws of all these runs, by the rows of all their scores."""
        asked = [t.pending for t in tasks if isinstance(t.pending, Draw)]
        try:
            blocks = [torch.as_tensor(a.scores.logits) for a in asked]
            samplers = [a.sampler for a in asked for _ in range(len(a.scores))]
            places = [a.position + n for a in asked for n in range(len(a.scores))]
            ids, logq = draws(
                samplers, places, blocks[0] if len(blocks) == 1 else torch.cat(blocks)
            )
        except Exception as error:  # noqa: BLE001 (whatever a kernel raises ends these runs)
            for task in tasks:
                self._fail(task, error)
            return
        at = 0
        for task, a in zip(tasks, asked, strict=True):
            end = at + len(a.scores)
            drawn: Drawn = (ids[at:end], logq[at:end])
            self._advance(task, drawn)
            at = end

    def _weigh(self, tasks: Sequence[Task]) -> None:
        """Reduce the scores of several runs in one go, where they are whole and alike."""
        asked = [t.pending for t in tasks if isinstance(t.pending, Weigh)]
        if len(asked) > 1 and len({a.k for a in asked}) == 1 and all(map(_stacks, asked)):
            try:
                rows = [torch.as_tensor(a.scores.logits) for a in asked]  # type: ignore[union-attr]
                ids = [i for a in asked for i in a.ids]
                found = measure(Full(torch.cat(rows)), ids, asked[0].k)
            except Exception as error:  # noqa: BLE001 (whatever a kernel raises ends these runs)
                for task in tasks:
                    self._fail(task, error)
                return
            at = 0
            for task, a in zip(tasks, asked, strict=True):
                self._advance(task, _part(found, at, at + len(a.ids)))
                at += len(a.ids)
            return
        for task, a in zip(tasks, asked, strict=True):
            try:
                alone = measure(a.scores, a.ids, a.k)
            except Exception as error:  # noqa: BLE001 (whatever a kernel raises ends this run)
                self._fail(task, error)
                continue
            self._advance(task, alone)

    def _advance(self, task: Task, value: Any) -> None:
        """Send an answer; do at once what can be done at once; stop at a request or a result."""
        task.pending, task.resting = None, False
        try:
            while True:
                event = task.events.send(value)
                value = None
                if isinstance(event, Take):
                    value = self._prefixes.take(event.ids, event.limit, event.inner, event.clean)
                elif isinstance(event, Keep):
                    kept = stepper(self._backend).fork(event.state, len(event.state.ids))
                    self._prefixes.put(kept)
                elif isinstance(event, Back):
                    stepper(self._backend).back(event.state, event.count)
                elif isinstance(event, Feed | Draw | Weigh):
                    task.pending = event
                    return
                else:
                    task.ready.append(event)
                    task.ended = isinstance(event, str)
                    task.resting = not task.ended
                    return
        except BaseException as error:
            self._fail(task, error)
            if not isinstance(error, Exception):
                raise

    def _fail(self, task: Task, error: BaseException) -> None:
        """The run ends with an error, which its own thread will see."""
        task.pending, task.resting, task.ended = None, False, True
        task.ready.append(error)


def _pass(mine: Task, others: Sequence[Task]) -> list[Task]:
    """Who is fed together with ``mine``: steps with steps, and chunks up to the pace."""
    small = _small(mine)
    tasks = [mine, *(t for t in others if _small(t) == small)][:WIDEST]
    if small:
        return tasks
    room = min(TOGETHER, mine.machine.pace.chunk())
    out: list[Task] = []
    for task in tasks:
        assert isinstance(task.pending, Feed)
        room -= len(task.pending.ids)
        if out and room < 0:
            break
        out.append(task)
    return out


def _small(task: Task) -> bool:
    return isinstance(task.pending, Feed) and len(task.pending.ids) <= SMALL


def _stacks(asked: Weigh) -> bool:
    scores = asked.scores
    return isinstance(scores, Full) and not scores.deferred and len(asked.ids) <= SMALL


def _part(found: Measured, start: int, stop: int) -> Measured:
    return Measured(
        {n: v[start:stop] for n, v in found.columns.items()}, found.quality,
        found.ids[start:stop], found.logprobs[start:stop],
    )  # fmt: skip
