"""How the schema and the files grew. Append only: a step that has shipped is never changed.

``PRAGMA user_version`` holds how many steps a data folder has seen. One that has seen more than
this program knows is refused and left as it is.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tokenscope.errors import StoreError, StoreNewer
from tokenscope.store import shelf
from tokenscope.store.database import connect, failure
from tokenscope.trace import Trace
from tokenscope.trace.files import whole

log = logging.getLogger(__name__)
Step = Callable[[sqlite3.Connection, Path], None]


def m001_initial(connection: sqlite3.Connection, _: Path) -> None:
    """Sessions and the tree of branches. Arrays live in files beside the database."""
    for statement in (
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY, title TEXT NOT NULL, created TEXT NOT NULL,
            updated TEXT NOT NULL, deleted TEXT)""",
        # deleted_by: the branch whose deletion took this one along; what an undo brings back
        """CREATE TABLE nodes (
            id TEXT PRIMARY KEY,
            session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
            parent TEXT REFERENCES nodes(id) ON DELETE CASCADE,
            at INTEGER NOT NULL, title TEXT NOT NULL, excerpt TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'done', 'kept')),
            finish TEXT NOT NULL, form TEXT NOT NULL, created TEXT NOT NULL,
            tokens INTEGER NOT NULL, summary TEXT NOT NULL,
            own_tokens INTEGER NOT NULL, own_logprob REAL, own_surprisal REAL,
            deleted_by TEXT)""",
        "CREATE INDEX nodes_of_session ON nodes (session)",
        "CREATE INDEX nodes_of_parent ON nodes (parent)",
        "CREATE INDEX nodes_running ON nodes (status) WHERE status = 'running'",
    ):
        connection.execute(statement)


def m002_models_and_requests(connection: sqlite3.Connection, _: Path) -> None:
    """Each branch knows its model, what was asked for and when it was deleted."""
    for statement in (
        """CREATE TABLE grown (
            id TEXT PRIMARY KEY,
            session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
            parent TEXT REFERENCES grown(id) ON DELETE CASCADE,
            at INTEGER NOT NULL, title TEXT NOT NULL, excerpt TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'done', 'interrupted')),
            finish TEXT NOT NULL, form TEXT NOT NULL, created TEXT NOT NULL,
            tokens INTEGER NOT NULL, summary TEXT NOT NULL,
            own_tokens INTEGER NOT NULL, own_logprob REAL, own_surprisal REAL,
            deleted_by TEXT, deleted TEXT,
            model TEXT NOT NULL DEFAULT '', model_digest TEXT NOT NULL DEFAULT '', request TEXT)""",
        """INSERT INTO grown SELECT
            id, session, parent, at, title, excerpt,
            CASE status WHEN 'kept' THEN 'interrupted' ELSE status END,
            finish, form, created, tokens, summary, own_tokens, own_logprob, own_surprisal,
            deleted_by,
            -- when it was deleted is not known: its time begins now
            CASE WHEN deleted_by IS NULL THEN NULL ELSE strftime('%Y-%m-%dT%H:%M:%fZ') END,
            '', '', NULL FROM nodes""",
        "DROP TABLE nodes",
        "ALTER TABLE grown RENAME TO nodes",
        "CREATE INDEX nodes_of_session ON nodes (session)",
        "CREATE INDEX nodes_of_parent ON nodes (parent)",
        "CREATE INDEX nodes_running ON nodes (status) WHERE status = 'running'",
    ):
        connection.execute(statement)


def m003_own_rows(connection: sqlite3.Connection, traces: Path) -> None:
    """A branch's file held its parent's rows, too; now it holds its own.

    A file is replaced only if parent and own rows give back exactly what it held. Each is whole
    before and after, so that a crash in the middle costs nothing: the step is begun again.
    """
    rows = connection.execute("SELECT id, parent FROM nodes ORDER BY created, id").fetchall()
    for row in rows:
        file = shelf.arrays_file(traces, row["id"])
        if not file.exists():
            continue
        try:
            trace = shelf.Shelf(traces).trace(row["id"], shelf.lineage(connection, row["id"]))
            if row["parent"] is not None:
                _shorten(connection, traces, row["id"], row["parent"], trace)
        except StoreError as error:
            if type(error).code not in ("store_damaged", "store_gone"):
                raise
            log.error("%s; it is left as it is", error)
            continue
        connection.execute(
            "UPDATE nodes SET model = ?, model_digest = ? WHERE id = ?",
            (trace.origin.model, trace.origin.model_digest, row["id"]),
        )


def _shorten(
    connection: sqlite3.Connection, traces: Path, node: str, parent: str, trace: Trace
) -> None:
    held = shelf.Shelf(traces)
    if held.own(node).start > 0:
        return  # by this step, before it was interrupted
    at = connection.execute("SELECT at FROM nodes WHERE id = ?", (node,)).fetchone()["at"]
    if not at or not shelf.arrays_file(traces, parent).exists():
        return
    base = held.trace(parent, shelf.lineage(connection, parent)).cut(at)
    if same(shelf.regrown(base, trace, at), trace):
        held.keep(node, trace, at)


def same(a: Trace, b: Trace) -> bool:
    """Whether two traces hold the same values, bit for bit."""
    (head_a, arrays_a), (head_b, arrays_b) = whole(a), whole(b)
    flat = lambda pieces: np.concatenate([np.asarray(p) for p in pieces]).tobytes()
    return (
        head_a == head_b
        and arrays_a.keys() == arrays_b.keys()
        and all(flat(arrays_a[n]) == flat(arrays_b[n]) for n in arrays_a)
    )


def m004_notes(connection: sqlite3.Connection, _: Path) -> None:
    """A branch can be marked and wears a note; its first own token's logprob stands in its row.

    Of branches made before, that logprob is not known here: it stays null.
    """
    for statement in (
        "ALTER TABLE nodes ADD COLUMN note TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE nodes ADD COLUMN starred INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE nodes ADD COLUMN turn_logprob REAL",
    ):
        connection.execute(statement)


STEPS: tuple[Step, ...] = (m001_initial, m002_models_and_requests, m003_own_rows, m004_notes)


def migrate(file: Path, traces: Path, steps: Sequence[Step] = STEPS) -> int:
    """Bring database and files up to date, a step a transaction. Returns how many steps it took.

    Raises StoreNewer when they are newer than this program (nothing is touched), StoreError.
    """
    try:
        connection = connect(file)
        try:
            # rebuilding a table drops the old one, which must not take along what points at it
            connection.execute("PRAGMA foreign_keys = OFF")
            seen = check_known(connection, file, steps)
            for number, step in enumerate(steps[seen:], seen + 1):
                connection.execute("BEGIN IMMEDIATE")
                step(connection, traces)
                connection.execute(f"PRAGMA user_version = {number}")
                connection.execute("COMMIT")
            return len(steps) - seen
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise failure(error, file) from error


def check_known(connection: sqlite3.Connection, file: Path, steps: Sequence[Step] = STEPS) -> int:
    """How many steps a database has seen. Raises StoreNewer when this program knows fewer."""
    seen = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if seen > len(steps):
        raise StoreNewer(file, f"schema {seen}, known here: {len(steps)}")
    return seen
