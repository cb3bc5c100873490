"""Sessions and their trees on the disk. Safe to use from several threads."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from tokenscope import disk
from tokenscope.errors import InputError, StoreDamaged, StoreError
from tokenscope.store import catalogue
from tokenscope.store.cache import TraceCache
from tokenscope.store.catalogue import any_node, live_node, live_session, touch
from tokenscope.store.database import FILE, Database, Folder
from tokenscope.store.journal import Journal
from tokenscope.store.migrations import migrate
from tokenscope.store.recording import Recording
from tokenscope.store.rows import NodeRow, SessionRow, measured, new_id, node_row, now, one_line
from tokenscope.store.shelf import EMPTY, Shelf, arrays_file, journal_file, lineage
from tokenscope.trace import Origin, Trace

log = logging.getLogger(__name__)
CACHE_BYTES = 256 << 20
RETENTION = timedelta(days=30)
LONG_AGO = "0001-01-01T00:00:00+00:00"
_EMPTIED = "FROM sessions WHERE deleted <= ? AND id NOT IN (SELECT session FROM nodes)"


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge took away, or would take away."""

    sessions: int
    branches: int
    bytes: int


@dataclass(frozen=True)
class Unsettled:
    """The end of a run that could not be written yet."""

    node: NodeRow
    trace: Trace
    start: int
    status: str
    finish: str


class Store:
    """A data folder: ``tokenscope.sqlite3``, and a file of arrays per branch under ``traces/``.

    Opening it takes the folder for this process, brings back what a crash interrupted, and takes
    away for good what was deleted longer ago than ``retention`` (None: nothing).
    Raises StoreError when the folder is held, damaged or newer, or the disk does not let us.
    """

    def __init__(self, folder: str | Path, retention: timedelta | None = RETENTION) -> None:
        self._folder = Folder(Path(folder))
        try:
            new = not (self._folder.path / FILE).exists()
            self._database = Database(self._folder.path / FILE)
            self._shelf = Shelf(self._folder.traces)
            self._cache = TraceCache(CACHE_BYTES)
            self._running: dict[str, Recording] = {}
            self._unsettled: dict[str, Unsettled] = {}
            self._guard = threading.RLock()
            self._retention = retention
            migrate(self._folder.path / FILE, self._folder.traces)
            self.kept = self._recover()
            if not new:  # beside a new database, files are all that is left of an old one
                self._clear()
            self._retain()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The data folder."""
        return self._folder.path

    def close(self) -> None:
        """Let go of the folder."""
        if hasattr(self, "_database"):
            self._database.close()
        self._folder.release()

    # --- sessions -----------------------------------------------------------------------------
    def sessions(self) -> list[SessionRow]:
        """All sessions that are not deleted, the one changed last first."""
        with self._read() as c:
            return catalogue.sessions(c)

    def session(self, session: str) -> SessionRow:
        """One session. Raises NotFound (also when it is deleted)."""
        with self._read() as c:
            return live_session(c, session)

    def new_session(self, title: str = "") -> SessionRow:
        """An empty session; without a title it takes the first line of its first prompt."""
        made, time = new_id(), now()
        with self._write() as c:
            catalogue.add(c, "sessions", id=made, title=title.strip(), created=time, updated=time)
            return live_session(c, made)

    def rename_session(self, session: str, title: str) -> SessionRow:
        """Another title. Raises NotFound."""
        with self._write() as c:
            live_session(c, session)
            touch(c, session, title=title)
            return live_session(c, session)

    def delete_session(self, session: str) -> list[str]:
        """Hide it. Returns its branches that are being written: the caller stops their runs.

        Raises NotFound.
        """
        with self._write() as c:
            live_session(c, session)
            catalogue.change(c, "sessions", session, deleted=now())
            found = [r["id"] for r in catalogue.live_nodes(c, session)]
        self._retain()
        return [n for n in found if n in self._running]

    def forget_session(self, session: str) -> None:
        """Remove a session for good, and its branches; none of them may be running.

        Raises NotFound.
        """
        with self._write() as c:
            live_session(c, session)
            catalogue.change(c, "sessions", session, deleted=LONG_AGO)
        self._retain() if self._retention is not None else self.purge()

    def restore_session(self, session: str) -> SessionRow:
        """Undo ``delete_session``. Raises NotFound when it was purged or never there."""
        with self._write() as c:
            catalogue.change(c, "sessions", session, deleted=None)
            return live_session(c, session)

    # --- branches -----------------------------------------------------------------------------
    def nodes(self, session: str) -> list[NodeRow]:
        """The branches of a session, oldest first. Raises NotFound."""
        with self._read() as c:
            live_session(c, session)
            return [node_row(r, self._running) for r in catalogue.live_nodes(c, session)]

    def node(self, node: str) -> NodeRow:
        """One branch. Raises NotFound (also when it, or its session, is deleted)."""
        with self._read() as c:
            return node_row(live_node(c, node), self._running)

    def rename_node(self, node: str, title: str) -> NodeRow:
        """A title of its own. Raises NotFound."""
        return self.annotate(node, title=title)

    def annotate(
        self,
        node: str,
        title: str | None = None,
        note: str | None = None,
        starred: bool | None = None,
    ) -> NodeRow:
        """Change what the reader says of a branch; None leaves it as it is. Raises NotFound."""
        said = {"title": title, "note": note, "starred": None if starred is None else int(starred)}
        given = {name: value for name, value in said.items() if value is not None}
        with self._write() as c:
            found = live_node(c, node)
            if given:
                catalogue.change(c, "nodes", node, **given)
            touch(c, found["session"])
            return node_row(live_node(c, node), self._running)

    def delete_node(self, node: str) -> list[str]:
        """Hide a branch and what grew from it. Returns their ids. Raises NotFound."""
        with self._write() as c:
            found = live_node(c, node)
            gone = catalogue.below(c, node)
            for name in gone:
                catalogue.change(c, "nodes", name, deleted_by=node, deleted=now())
            touch(c, found["session"])
        self._retain()
        return gone

    def restore_node(self, node: str) -> NodeRow:
        """Undo ``delete_node``: what that deletion hid comes back.

        Raises NotFound when there is no such branch, InputError when its parent is deleted.
        """
        with self._write() as c:
            found = any_node(c, node)
            live_session(c, found["session"])
            if found["deleted_by"] not in (None, node):
                raise InputError("node", "was deleted with a branch above it; restore that one")
            parent = found["parent"]
            if parent is not None and any_node(c, parent)["deleted_by"] is not None:
                raise InputError("node", "it grew from a deleted branch; restore that one")
            c.execute(
                "UPDATE nodes SET deleted_by = NULL, deleted = NULL WHERE deleted_by = ?", (node,)
            )
            touch(c, found["session"])
            return node_row(live_node(c, node), self._running)

    def begin(
        self, session: str, origin: Origin, *, form: str = "plain", language: str = "",
        parent: str | None = None, at: int = 0, shared: Trace | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Recording:  # fmt: skip
        """A new branch in state ``running`` that differs from ``parent`` at token ``at``.

        ``shared``: the parent's first ``at`` tokens, if their numbers count for this branch too;
        without it the recording holds the branch from its token 0. ``request``: what was asked
        for, as plain JSON values, to go on with should the run be interrupted.
        Raises NotFound when the session or the parent is not there, StoreError.
        """
        made, time = new_id(), now()
        self._folder.check()
        start = len(shared) if shared is not None else 0
        log_file = Journal(journal_file(self._shelf.folder, made), origin, language, start)
        try:
            with self._write() as c:
                live_session(c, session)
                if parent is not None:
                    live_node(c, parent)
                catalogue.add(
                    c, "nodes", id=made, session=session, parent=parent, at=at, title="",
                    status="running", finish="", form=form, created=time, model=origin.model,
                    model_digest=origin.model_digest,
                    request=None if request is None else json.dumps(request),
                    **measured(shared or EMPTY, parent, at),
                )  # fmt: skip
                touch(c, session)
                row = node_row(live_node(c, made), {made})
        except BaseException:
            log_file.close()
            disk.remove(log_file.path)
            raise
        recording = Recording(row, log_file, shared, origin, language, self._finished)
        self._running[made] = recording
        return recording

    def trace(self, node: str) -> Trace:
        """The trace of a branch; of a running one, what there is so far. Raises NotFound.

        Large attention stays on the disk until it is asked for.
        """
        with self._read() as c:
            live_node(c, node)
            return self._trace(c, node)

    def known(self) -> dict[str, str]:
        """Status of every branch that was not purged, deleted ones too, oldest first."""
        with self._read() as c:
            found = c.execute("SELECT id, status FROM nodes ORDER BY created")
            status = {r["id"]: r["status"] for r in found}
        return status | dict.fromkeys(self._running, "running")

    # --- what was deleted -----------------------------------------------------------------------
    def purge(self, older_than: timedelta = RETENTION, dry_run: bool = False) -> Purged:
        """Remove for good what was deleted at least that long ago; ``dry_run``: only say what.

        What a run that is going on needs stays.
        """
        before = now(older_than)
        with self._read() as c:
            would = self._doomed(c, before)[1]
        if dry_run:
            return would
        with self._write() as c:
            ids, gone = self._doomed(c, before)
            for node in ids:
                c.execute("DELETE FROM nodes WHERE id = ?", (node,))
            c.execute(f"DELETE {_EMPTIED}", (before,))
        for node in ids:
            self._cache.drop(node)
            self._shelf.remove(node)
        return gone

    def _doomed(self, c: Connection, before: str) -> tuple[list[str], Purged]:
        """Branches deleted at ``before`` or earlier that no run needs, and what they are."""
        ids = catalogue.doomed(c, before, json.dumps([*self._running, *self._unsettled]))
        count = c.execute("SELECT count(*) FROM sessions WHERE deleted <= ?", (before,))
        size = sum(self._shelf.size(n) for n in ids)
        return ids, Purged(int(count.fetchone()[0]), len(ids), size)

    def _retain(self) -> None:
        if self._retention is None:
            return
        try:
            gone = self.purge(self._retention)
        except StoreError as error:
            log.warning("deleted sessions could not be purged: %s", error)
            return
        if gone.branches or gone.sessions:
            log.info("purged %d session(s) deleted over %s ago", gone.sessions, self._retention)

    # --- what lies below --------------------------------------------------------------------------
    @contextmanager
    def _read(self) -> Iterator[Connection]:
        self._folder.check()
        with self._database.read() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        self._folder.check()
        self._settle()
        with self._database.write() as connection:
            yield connection

    def _trace(self, c: Connection, node: str) -> Trace:
        held = self._now(node)
        if held is not None:
            return held
        line, base = lineage(c, node), None
        for known, name in enumerate(line):
            base = self._now(name)  # asked once: it may leave the cache at any moment
            if base is not None:
                line = line[:known]
                break
        trace = self._shelf.trace(node, line, base)
        if arrays_file(self._shelf.folder, node).exists():
            self._cache.put(node, trace)
        return trace

    def _now(self, node: str) -> Trace | None:
        """The trace of a branch, if it is in memory."""
        recording, unsettled = self._running.get(node), self._unsettled.get(node)
        if recording is not None:
            return recording.trace()
        return unsettled.trace if unsettled is not None else self._cache.get(node)

    def _finished(self, recording: Recording, trace: Trace | None, finish: str) -> NodeRow:
        node = recording.node
        whole = replace(trace or recording.trace(), finish=finish)  # type: ignore[arg-type]
        status = "interrupted" if finish == "error" else "done"
        end = Unsettled(node, whole, recording.shared, status, finish)
        with self._guard:
            # from here on it is not running, whatever the disk says
            self._unsettled[node.id] = end
            self._running.pop(node.id, None)
            self._folder.check()
            return self._keep(end)

    def _keep(self, end: Unsettled) -> NodeRow:
        """Arrays first, then the row, then the journal goes: every moment between is whole."""
        node, trace = end.node, end.trace
        self._shelf.keep(node.id, trace, end.start)
        with self._database.write() as c:
            catalogue.change(
                c, "nodes", node.id, status=end.status, finish=end.finish,
                model=trace.origin.model, model_digest=trace.origin.model_digest,
                **measured(trace, node.parent, node.at),
            )  # fmt: skip
            c.execute(
                "UPDATE sessions SET title = ? WHERE id = ? AND title = ''",
                (one_line(trace.text), node.session),
            )
            touch(c, node.session)
            row = node_row(any_node(c, node.id))
        self._cache.put(node.id, trace)
        self._unsettled.pop(node.id, None)
        try:
            disk.remove(journal_file(self._shelf.folder, node.id))
        except StoreError as error:  # the next start clears it away
            log.warning("%s", error)
        return row

    def _settle(self) -> None:
        """Write the ends of runs that could not be written when they came, if it goes now."""
        if not self._unsettled:
            return
        with self._guard:
            for end in list(self._unsettled.values()):
                try:
                    self._keep(end)
                except StoreError as error:
                    log.warning("branch %s is not settled yet: %s", end.node.id, error)
                    return

    def _recover(self) -> int:
        """Branches that were running when the process died become ``interrupted``."""
        with self._read() as c:
            rows = [
                node_row(r)
                for r in c.execute("SELECT * FROM nodes WHERE status = 'running' ORDER BY created")
            ]
            for row in rows:  # oldest first: a branch may have grown from one that was running too
                try:
                    own = self._shelf.own(row.id)
                    trace = self._trace(c, row.id)
                except StoreDamaged as error:
                    log.error("branch %s cannot be brought back: %s", row.id, error)
                    continue
                # with a finish it was whole, and only its row was not written any more
                status = "done" if trace.finish else "interrupted"
                finish = trace.finish or "error"
                self._unsettled[row.id] = Unsettled(
                    row, replace(trace, finish=finish), own.start, status, finish
                )
        for end in list(self._unsettled.values()):
            try:
                self._keep(end)
            except StoreError as error:  # it can be read all the same; the next change tries again
                log.error("branch %s is not settled yet: %s", end.node.id, error)
        return len(rows)

    def _clear(self) -> None:
        """Take away what a crash between two steps left lying about."""
        with self._read() as c:
            status = {r["id"]: r["status"] for r in c.execute("SELECT id, status FROM nodes")}
        with disk.reported(self._shelf.folder):
            files = list(self._shelf.folder.iterdir())
        for file in files:
            done = file.suffix == ".journal" and status.get(file.stem) != "running"
            if file.suffix == ".part" or file.stem not in status or done:
                try:
                    disk.remove(file)
                except StoreError as error:
                    log.warning("%s", error)
