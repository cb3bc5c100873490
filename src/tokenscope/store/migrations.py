"""How the schema grew. Append only: a step that has shipped is never changed.

``PRAGMA user_version`` holds how many steps a database has seen. A database that has seen more
than this program knows is refused and left as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from tokenscope.errors import StoreError


def m001_initial(connection: Connection) -> None:
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
        connection.execute(text(statement))


Step = Callable[[Connection], None]
STEPS: tuple[Step, ...] = (m001_initial,)


def check_known(seen: int, steps: tuple[Step, ...] = STEPS) -> None:
    """Raises StoreError when a database has seen more steps than this program knows."""
    if seen > len(steps):
        raise StoreError(
            f"the store has schema {seen}, this TokenScope knows {len(steps)}: it was written by a "
            "newer version; install that one, or choose another folder with --data"
        )


def migrate(connection: Connection, steps: tuple[Step, ...] = STEPS) -> int:
    """Bring the schema up to date, inside the caller's transaction. Returns how many steps it took.

    Raises StoreError when the database is newer than this program.
    """
    seen = int(connection.execute(text("PRAGMA user_version")).scalar_one())
    check_known(seen, steps)
    for step in steps[seen:]:
        step(connection)
    if seen < len(steps):
        connection.execute(text(f"PRAGMA user_version = {len(steps)}"))
    return len(steps) - seen
