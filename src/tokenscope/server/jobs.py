"""The jobs of the server: how many may run, what they tell, how to stop them.

A job (generate, fork, score, explain, load ...) belongs to the server, not to the page that asked:
pages look on and may leave. One that nobody watches goes on for a while and is then stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from tokenscope.control import Cancelled
from tokenscope.errors import BusyError, NotFound, TokenScopeError
from tokenscope.server import wire
from tokenscope.server.feed import Feed, Gap, Log
from tokenscope.store import rows

log = logging.getLogger(__name__)
MOST_RUNS = 8
RETRY_AFTER = 5
UNATTENDED = 600.0  # seconds that a job goes on when nobody watches
ENDED_KEPT = 32  # jobs that are over and can still be looked at,
ENDED_MOST = 256  # or so many while they ended less than
ENDED_SECONDS = 60.0  # ago
PROGRESS_EVERY = 0.1  # a reader needs no more than ten progress events a second

Kind = Literal[
    "generate", "fork", "score", "explain", "explore", "forking", "ledger", "patch", "load",
    "fetch", "audit",
]  # fmt: skip


class Work(Protocol):
    """What a job does."""

    def run(self, job: Job) -> None:
        """In the job's thread: from the first event to the last. May raise anything."""

    def fail(self, job: Job) -> None:
        """Something was raised: keep what there is."""

    def cancel(self) -> None:
        """From any thread: end soon."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """The events of a gap, made again, in any thread."""


class Job:
    """One piece of long work: says events, knows its progress, can be stopped."""

    def __init__(self, jobs: Jobs, kind: Kind, session: str, node: str, work: Work) -> None:
        self.id = rows.new_id()
        self.kind: Kind = kind
        self.session = session
        self.node = node
        self.work = work
        self.log = Log()
        self.split = 0
        self.ended = False
        self.attended = False  # a client waits for it, so no page has to watch
        self.progress: tuple[int, int, str] | None = None
        self._first: int | None = None  # pieces that were done before it began
        self._jobs = jobs
        self._tokens = 0
        self._told = 0.0
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._alone: float | None = time.monotonic()
        self._asked = self._over = 0.0
        self._head = json.dumps({"run": self.id, "node": node, "kind": kind})[:-1].encode()

    # --- asked from anywhere ------------------------------------------------------------------
    def cancel(self) -> None:
        """End soon; what was done is kept."""
        self._stop.set()
        self.work.cancel()

    def info(self) -> wire.JobInfo:
        """Where it stands. The estimate goes by the pieces that it has done so far."""
        done, total, what = self.progress or (0, None, "")
        left = None
        own = done - (self._first or 0)
        if total and own > 0 and not self.ended:
            left = round((time.monotonic() - self._began) * (total - done) / own, 1)
        return wire.JobInfo(
            run=self.id, kind=self.kind, node=self.node or None, session=self.session or None,
            running=not self.ended, done=done, total=total, what=what, left_s=left,
        )  # fmt: skip

    def age(self) -> float:
        """Seconds since it ended."""
        return time.monotonic() - self._over if self.ended else 0.0

    def end(self) -> None:
        """The last event is said."""
        self._over = time.monotonic()
        self.ended = True

    # --- asked by the work --------------------------------------------------------------------
    @property
    def stopping(self) -> bool:
        """Whether the whole server is about to stop."""
        return self._jobs.closed

    def record(self, payload: Mapping[str, Any]) -> None:
        """Put what was done into the records of the server."""
        told = {"job": self.kind, "run": self.id, "node": self.node, "session": self.session}
        self._jobs.recorded("run", {**told, **payload})

    def cancelled(self) -> bool:
        """Whether to stop: because somebody said so, or nobody has watched for too long."""
        now = time.monotonic()
        if not self.attended and not self._stop.is_set() and now - self._asked > 1.0:
            self._asked = now
            if self._jobs.feed.watched(self.id, self.session):
                self._alone = None
            elif self._alone is None:
                self._alone = now
            elif now - self._alone > self._jobs.unattended:
                log.info("run %s: nobody watched for %.0f s", self.id, now - self._alone)
                self.cancel()
        return self._stop.is_set()

    def say(self, event: BaseModel, tokens: int | None = None, passing: bool = False) -> None:
        """Tell an event. ``tokens``: how many the branch has now."""
        if tokens is not None:
            self._tokens = tokens
        self._jobs.feed.publish(
            self.log, self.id, self.session, self.wrapped(event), self._tokens, passing
        )

    def wrapped(self, event: BaseModel) -> bytes:
        """An event with the ids of its run and node around it."""
        return self._head + b', "event": ' + event.model_dump_json().encode() + b"}"

    def step(self, done: int, total: int, what: str = "") -> None:
        """Progress, for the event stream and for whoever asks where the job stands."""
        if self._first is None:
            self._first = done
        self.progress = (done, total, what)
        now = time.monotonic()
        if done in (0, total) or now - self._told >= PROGRESS_EVERY:
            self._told = now
            self.say(
                wire.ProgressEvent(type="progress", done=done, total=total, what=what),
                passing=True,
            )

    # --- the thread ---------------------------------------------------------------------------
    def write(self) -> None:
        """All of it. Never raises."""
        try:
            self.work.run(self)
        except Cancelled:
            self.say(wire.DoneEvent(type="done", finish="cancelled"))
        except TokenScopeError as error:
            self._fail(error.code, str(error))
        except BaseException:  # a tokenizer or a kernel may raise what is no Exception
            log.exception("run %s failed", self.id)
            self._fail("internal", "the run failed; the server's log says why")
        finally:
            self._jobs.over(self)

    def _fail(self, code: str, message: str) -> None:
        try:
            self.work.fail(self)
        except Exception:  # the disk may be what failed; the next start brings the branch back
            log.exception("branch %s could not be closed", self.node)
        self.say(wire.ErrorEvent(type="error", code=code, message=message))


class Jobs:
    """At most ``most`` at once, taking turns at the model; one more is refused (503).

    ``recorded(kind, payload)``: where what jobs did is recorded.
    """

    def __init__(
        self, most: int = MOST_RUNS, unattended: float = UNATTENDED,
        recorded: Callable[[str, Mapping[str, Any]], None] = lambda kind, payload: None,
    ) -> None:  # fmt: skip
        self.most = most
        self.recorded = recorded
        self.unattended = unattended
        self.feed = Feed()
        self.again = asyncio.Lock()
        self._taken = 0
        self._held: OrderedDict[str, Job] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place for one piece of work. Given back at the end of the block, or, when a job was
        started in it, at the end of that job. Raises BusyError when all are taken."""
        with self._changed:
            if self._closed:
                raise BusyError("the server is stopping", RETRY_AFTER)
            if self._taken >= self.most:
                raise BusyError(f"{self.most} runs are in progress; try again later", RETRY_AFTER)
            self._taken += 1
        place = Place(self)
        try:
            yield place
        finally:
            if not place.given:
                self._free()

    def watched_by(self, runs: frozenset[str], session: str) -> list[Job]:
        """The jobs, running or lately ended, of a session or with these ids; house-wide ones
        belong to every session."""
        with self._changed:
            held = list(self._held.values())
        if runs:
            return [job for job in held if job.id in runs]
        return [job for job in held if job.session in ("", session)]

    def all(self) -> list[Job]:
        """Running or lately ended, oldest first."""
        with self._changed:
            return list(self._held.values())

    def get(self, run: str) -> Job:
        """Raises NotFound when it ended some time ago, or never was."""
        with self._changed:
            found = self._held.get(run)
        if found is None:
            raise NotFound("no such run in progress")
        return found

    def cancel(self, run: str) -> None:
        """Stop a job. Raises NotFound when it is not in progress (any more)."""
        job = self.get(run)
        if job.ended:
            raise NotFound("no such run in progress")
        job.cancel()

    def cancel_of(self, *, node: str | None = None, session: str | None = None) -> None:
        """Stop what works on a branch or in a session."""
        for job in self.all():
            if job.node == node or (session is not None and job.session == session):
                job.cancel()

    def close(self, timeout: float = 10.0) -> bool:
        """Stop all, take no more, wait until they have kept what they wrote."""
        self.stop()
        with self._changed:
            return self._changed.wait_for(lambda: self._taken == 0, timeout)

    def stop(self) -> None:
        """Stop all and take no more; does not wait. Streams end when their jobs have."""
        with self._changed:
            self._closed = True
            jobs = list(self._held.values())
        for job in jobs:
            job.cancel()
        self.feed.call()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    @property
    def count(self) -> int:
        """How many places are taken."""
        with self._changed:
            return self._taken

    def begin(self, job: Job) -> None:
        """Its thread. The place is free when it ends."""
        with self._changed:
            self._held[job.id] = job
            closed = self._closed
            ended = [j for j in self._held.values() if j.ended]
            for n, old in enumerate(ended):
                left = len(ended) - n
                if left > ENDED_MOST or (left > ENDED_KEPT and old.age() > ENDED_SECONDS):
                    del self._held[old.id]
        if closed:
            job.cancel()
        try:
            threading.Thread(target=job.write, name=f"run-{job.id}", daemon=True).start()
        except RuntimeError:  # no thread to be had
            with self._changed:
                del self._held[job.id]
            raise

    def over(self, job: Job) -> None:
        """A job has said its last event."""
        with self._changed:
            job.end()
        self._free()
        self.feed.call()

    def _free(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()


class Place:
    """A place that one job may take."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.given = False

    def start(self, kind: Kind, session: str, node: str, work: Work) -> Job:
        """Begin a job; from now on the place is its own."""
        job = Job(self._jobs, kind, session, node, work)
        self._jobs.begin(job)
        self.given = True
        return job
