"""Audits as jobs: one at a time in a folder, kept going while nobody looks, gone on with later."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from tokenscope.control import Cancelled, Control
from tokenscope.errors import BusyError, StoreError, TokenScopeError
from tokenscope.evidence import kept
from tokenscope.evidence.kept import Kept
from tokenscope.records import digests
from tokenscope.runs.audit_kept import Look, go, look
from tokenscope.server import wire
from tokenscope.server.feed import Gap
from tokenscope.server.jobs import Job, Place

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

FOLDER = "audits"  # in the data folder
_LOOKS = 4  # audits whose report is kept in memory


class Audits:
    """The audits below ``root``, and which of them run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._guard = threading.Lock()
        self._live: dict[str, Job | None] = {}
        self._looks: dict[str, tuple[object, Look]] = {}

    def start(self, place: Place, model: Model, name: str, held: ExitStack) -> Job:
        """Do the audit in the folder ``name``, or go on with it. ``held``: the model, until it is
        over. Raises NotFound, BusyError when it runs already."""
        audit = kept.get(self.root, name)
        with self._guard:
            if name in self._live:
                raise BusyError("this audit runs already", 1)
            self._live[name] = None
        try:
            job = place.start("audit", "", "", Auditing(self, audit, model, held))
        except BaseException:
            self.over(name)
            raise
        with self._guard:
            if name in self._live:  # it may be over by now
                self._live[name] = job
        return job

    def over(self, name: str) -> None:
        """It runs no more."""
        with self._guard:
            self._live.pop(name, None)

    def job(self, name: str) -> Job | None:
        """The job of an audit while it runs."""
        with self._guard:
            return self._live.get(name)

    def running(self, name: str) -> bool:
        """Whether it runs, or is about to."""
        with self._guard:
            return name in self._live

    def look(self, held: Kept) -> Look:
        """Its report by now; kept until its files change. Raises NotFound."""
        stamp = [
            (s.st_size, s.st_mtime_ns)
            for n in (kept.JOURNAL, kept.DONE, "errors.jsonl")
            if (p := held.folder / n).is_file() and (s := p.stat())
        ]
        with self._guard:
            known = self._looks.get(held.name)
        if known is not None and known[0] == stamp:
            return known[1]
        made = look(held)
        with self._guard:
            self._looks.pop(held.name, None)
            self._looks[held.name] = (stamp, made)
            while len(self._looks) > _LOOKS:
                del self._looks[next(iter(self._looks))]
        return made


class Auditing:
    """One audit, from where it stands to its reports."""

    def __init__(self, audits: Audits, held: Kept, model: Model, stack: ExitStack) -> None:
        self._audits = audits
        self._held = held
        self._model = model
        self._stack = stack
        self._control = Control()

    def run(self, job: Job) -> None:
        """Case by case; how it ended is kept in the folder."""
        job.attended = True  # it is kept, so nobody has to watch
        self._control = Control(job.step, job.cancelled)
        folder, status, said = self._held.folder, "failed", "the server's log says why"
        try:
            with self._stack:
                made = go(self._model, self._held, self._control)
            status = "done"
        except Cancelled:
            status, said = "interrupted" if job.stopping else "cancelled", ""
            raise
        except TokenScopeError as error:
            said = str(error)
            raise
        finally:
            if status in ("cancelled", "failed"):
                with suppress(StoreError):  # then it counts as interrupted
                    kept.end(folder, status, said)  # type: ignore[arg-type]
            self._audits.over(self._held.name)
        gates = [v.to_json() for v in made.report.verdicts]
        job.record({"finish": "done", "audit": self._held.name, "state": made.state,
                    "gates": gates, "files": digests(folder)})  # fmt: skip
        job.say(wire.DoneEvent(type="done", finish="done"))

    def cancel(self) -> None:
        """It asks between two tokens."""
        self._control.cancel()

    def fail(self, job: Job) -> None:
        """The journal holds the cases that were done."""

    def again(self, gap: Gap) -> list[BaseModel]:
        """Nothing falls out: it tells progress and its end."""
        return []
