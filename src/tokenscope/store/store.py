"""Sessions and their trees on the disk. Safe to use from several threads."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from tokenscope.errors import InputError, StoreError
from tokenscope.store import arrays, journal
from tokenscope.store.cache import TraceCache
from tokenscope.store.database import FILE, Database, Folder
from tokenscope.store.journal import Journal
from tokenscope.store.queries import (
    any_node,
    below,
    hidden,
    live_node,
    live_session,
    session_rows,
    touch,
)
from tokenscope.store.recording import Recording
from tokenscope.store.rows import (
    NodeRow,
    SessionRow,
    measured,
    new_id,
    node_row,
    now,
    one_line,
)
from tokenscope.store.tables import NODES, SESSIONS
from tokenscope.trace import Origin, Tokens, Trace

log = logging.getLogger(__name__)
CACHE_BYTES = 256 << 20
EMPTY = Trace(Tokens.of([], []), 0)


class Store:
    """A data folder: ``tokenscope.sqlite3``, and a file of arrays per branch under ``traces/``.

    Opening it takes the folder for this process and brings back what a crash interrupted.
    Raises StoreError when the folder is held, damaged or newer.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Folder(Path(folder))
        try:
            self._files = self._folder.path / "traces"
            self._files.mkdir(mode=0o700, exist_ok=True)
            self._database = Database(self._folder.path / FILE)
            self._cache = TraceCache(CACHE_BYTES)
            self.kept = self._recover()
        except BaseException:
            self._folder.release()
            raise

    @property
    def path(self) -> Path:
        """The data folder."""
        return self._folder.path

    def close(self) -> None:
        """Let go of the folder."""
        self._database.close()
        self._folder.release()

    # --- sessions -----------------------------------------------------------------------------
    def sessions(self) -> list[SessionRow]:
        """All sessions that are not deleted, the one changed last first."""
        with self._database.read() as c:
            rows = c.execute(session_rows().order_by(SESSIONS.c.updated.desc(), SESSIONS.c.id))
            return [SessionRow(**r) for r in rows.mappings()]

    def session(self, session: str) -> SessionRow:
        """One session. Raises NotFound (also when it is deleted)."""
        with self._database.read() as c:
            return live_session(c, session)

    def new_session(self, title: str = "") -> SessionRow:
        """An empty session; without a title it takes the first line of its first prompt."""
        made, time = new_id(), now()
        with self._database.write() as c:
            c.execute(
                SESSIONS.insert().values(id=made, title=title.strip(), created=time, updated=time)
            )
            return live_session(c, made)

    def rename_session(self, session: str, title: str) -> SessionRow:
        """Another title. Raises NotFound."""
        with self._database.write() as c:
            live_session(c, session)
            touch(c, session, title=title)
            return live_session(c, session)

    def delete_session(self, session: str) -> None:
        """Hide it. Raises NotFound."""
        with self._database.write() as c:
            live_session(c, session)
            c.execute(SESSIONS.update().where(SESSIONS.c.id == session).values(deleted=now()))

    def restore_session(self, session: str) -> SessionRow:
        """Undo ``delete_session``. Raises NotFound when it was purged or never there."""
        with self._database.write() as c:
            c.execute(SESSIONS.update().where(SESSIONS.c.id == session).values(deleted=None))
            return live_session(c, session)

    # --- branches -----------------------------------------------------------------------------
    def nodes(self, session: str) -> list[NodeRow]:
        """The branches of a session, oldest first. Raises NotFound."""
        with self._database.read() as c:
            live_session(c, session)
            rows = c.execute(
                select(NODES)
                .where(NODES.c.session == session, NODES.c.deleted_by.is_(None))
                .order_by(NODES.c.created, NODES.c.id)
            )
            return [node_row(r) for r in rows.mappings()]

    def node(self, node: str) -> NodeRow:
        """One branch. Raises NotFound (also when it, or its session, is deleted)."""
        with self._database.read() as c:
            return node_row(live_node(c, node))

    def rename_node(self, node: str, title: str) -> NodeRow:
        """A title of its own. Raises NotFound."""
        with self._database.write() as c:
            found = live_node(c, node)
            c.execute(NODES.update().where(NODES.c.id == node).values(title=title))
            touch(c, found["session"])
            return node_row(live_node(c, node))

    def delete_node(self, node: str) -> list[str]:
        """Hide a branch and what grew from it. Returns their ids. Raises NotFound."""
        with self._database.write() as c:
            found = live_node(c, node)
            gone = below(c, node)
            c.execute(
                NODES.update()
                .where(NODES.c.id.in_(gone), NODES.c.deleted_by.is_(None))
                .values(deleted_by=node)
            )
            touch(c, found["session"])
        return gone

    def restore_node(self, node: str) -> NodeRow:
        """Undo ``delete_node``: what that deletion hid comes back.

        Raises NotFound when there is no such branch, InputError when its parent is deleted.
        """
        with self._database.write() as c:
            found = any_node(c, node)
            live_session(c, found["session"])
            if found["deleted_by"] not in (None, node):
                raise InputError("node", "was deleted with a branch above it; restore that one")
            if found["parent"] is not None and hidden(c, found["parent"]):
                raise InputError("node", "it grew from a deleted branch; restore that one")
            c.execute(NODES.update().where(NODES.c.deleted_by == node).values(deleted_by=None))
            touch(c, found["session"])
            return node_row(live_node(c, node))

    def begin(
        self, session: str, origin: Origin, *, form: str = "plain", language: str = "",
        parent: str | None = None, at: int = 0, shared: Trace | None = None,
    ) -> Recording:  # fmt: skip
        """A new branch in state ``running`` that differs from ``parent`` at token ``at``.

        ``shared``: the parent's first ``at`` tokens, if their numbers count for this branch too;
        without it the recording holds the branch from its token 0.
        Raises NotFound when the session or the parent is not there.
        """
        made, time = new_id(), now()
        with self._database.write() as c:
            live_session(c, session)
            if parent is not None:
                live_node(c, parent)
            c.execute(NODES.insert().values(
                id=made, session=session, parent=parent, at=at, title="", status="running",
                finish="", form=form, created=time, **measured(shared or EMPTY, parent, at),
            ))  # fmt: skip
            touch(c, session)
            row = node_row(live_node(c, made))
        start = len(shared) if shared is not None else 0
        log_file = Journal(self._journal(made), origin, language, start)
        return Recording(row, log_file, self._finished)

    def trace(self, node: str) -> Trace:
        """The trace of a branch; of a running one, what there is so far. Raises NotFound."""
        self.node(node)
        return self._trace(node)

    def purge(self) -> int:
        """Remove for good what is deleted. Returns the number of branches removed."""
        with self._database.write() as c:
            gone = select(SESSIONS.c.id).where(SESSIONS.c.deleted.is_not(None))
            doomed = NODES.c.deleted_by.is_not(None) | NODES.c.session.in_(gone)
            ids = list(c.execute(
                select(NODES.c.id).where(doomed, NODES.c.status != "running")
            ).scalars())  # fmt: skip
            c.execute(NODES.delete().where(NODES.c.id.in_(ids)))
            busy = select(NODES.c.session).where(NODES.c.status == "running")
            c.execute(SESSIONS.delete().where(
                SESSIONS.c.deleted.is_not(None), SESSIONS.c.id.not_in(busy)
            ))  # fmt: skip
        for node in ids:
            self._cache.drop(node)
            self._arrays(node).unlink(missing_ok=True)
            self._journal(node).unlink(missing_ok=True)
        return len(ids)

    # --- files --------------------------------------------------------------------------------
    def _arrays(self, node: str) -> Path:
        return self._files / f"{node}{arrays.SUFFIX}"

    def _journal(self, node: str) -> Path:
        return self._files / f"{node}.journal"

    def _trace(self, node: str) -> Trace:
        held = self._cache.get(node)
        if held is not None:
            return held
        if self._arrays(node).exists():
            trace = arrays.read(self._arrays(node))
            self._cache.put(node, trace)
            return trace
        with self._database.read() as c:
            found = any_node(c, node)
        base = EMPTY
        if found["parent"] is not None and journal.start(self._journal(node)) > 0:
            base = self._trace(found["parent"]).cut(found["at"])
        trace = journal.read(self._journal(node), base)
        # it may have been finished meanwhile: its journal is gone then, its arrays are there
        return self._trace(node) if self._arrays(node).exists() else trace

    def _finished(self, node: NodeRow, trace: Trace | None, finish: str) -> NodeRow:
        return self._keep(node, trace or self._trace(node.id), "done", finish)

    def _keep(self, node: NodeRow, trace: Trace, status: str, finish: str) -> NodeRow:
        """Arrays first, then the row, then the journal goes: every moment between is whole."""
        trace = replace(trace, finish=finish)  # type: ignore[arg-type]
        arrays.write(trace, self._arrays(node.id))
        self._cache.put(node.id, trace)
        with self._database.write() as c:
            c.execute(NODES.update().where(NODES.c.id == node.id).values(
                status=status, finish=finish, **measured(trace, node.parent, node.at)
            ))  # fmt: skip
            title = one_line(trace.text)
            c.execute(
                SESSIONS.update()
                .where(SESSIONS.c.id == node.session, SESSIONS.c.title == "")
                .values(title=title)
            )
            touch(c, node.session)
            row = node_row(any_node(c, node.id))
        self._journal(node.id).unlink(missing_ok=True)
        return row

    def _recover(self) -> int:
        """Branches that were running when the process died become ``kept``. Returns how many."""
        with self._database.read() as c:
            found = select(NODES).where(NODES.c.status == "running").order_by(NODES.c.created)
            rows = [node_row(r) for r in c.execute(found).mappings()]
            whole = set(c.execute(select(NODES.c.id)).scalars())
        for row in rows:  # oldest first: a branch may have grown from one that was running too
            try:
                trace = self._trace(row.id)
                # with a finish it was whole, and only its row was not written any more
                self._keep(row, trace, "done" if trace.finish else "kept", trace.finish or "error")
            except StoreError as error:
                log.error("branch %s cannot be brought back: %s", row.id, error)
        running = {row.id for row in rows}
        for file in self._files.iterdir():  # what a crash between two steps left lying about
            done = file.suffix == ".journal" and file.stem not in running
            if file.suffix == ".part" or file.stem not in whole or done:
                file.unlink(missing_ok=True)
        return len(rows)
