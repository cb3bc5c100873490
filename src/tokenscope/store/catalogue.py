"""The questions that are asked of the database, and the changes made in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from tokenscope.errors import NotFound
from tokenscope.store.rows import SessionRow, now

Connection = sqlite3.Connection
_SESSIONS = """SELECT s.id, s.title, s.created, s.updated, count(n.id) AS branches,
        coalesce(sum(n.own_tokens), 0) AS tokens
    FROM sessions s LEFT JOIN nodes n ON n.session = s.id AND n.deleted_by IS NULL
    WHERE s.deleted IS NULL {} GROUP BY s.id ORDER BY s.updated DESC, s.id"""
_LIVE_NODE = """SELECT n.* FROM nodes n JOIN sessions s ON s.id = n.session
    WHERE n.id = ? AND n.deleted_by IS NULL AND s.deleted IS NULL"""
_BELOW = """WITH RECURSIVE tree (id) AS (
        SELECT id FROM nodes WHERE id = ?
        UNION ALL SELECT n.id FROM nodes n JOIN tree ON n.parent = tree.id
            WHERE n.deleted_by IS NULL)
    SELECT id FROM tree"""
# a branch that grew from a doomed one must go with it, and what something running needs must stay
_DOOMED = """WITH RECURSIVE
    needed (id, session, parent) AS (
        SELECT id, session, parent FROM nodes WHERE id IN (SELECT value FROM json_each(:running))
        UNION SELECT n.id, n.session, n.parent FROM nodes n JOIN needed ON n.id = needed.parent),
    old (id) AS (
        SELECT n.id FROM nodes n JOIN sessions s ON s.id = n.session
        WHERE (n.deleted <= :before OR s.deleted <= :before)
        UNION SELECT n.id FROM nodes n JOIN old ON n.parent = old.id)
    SELECT id FROM old WHERE id NOT IN (SELECT id FROM needed)"""


def sessions(c: Connection) -> list[SessionRow]:
    """Sessions that are not deleted, with the number of their branches and tokens."""
    return [SessionRow(**r) for r in c.execute(_SESSIONS.format(""))]


def live_session(c: Connection, session: str) -> SessionRow:
    """Raises NotFound when it is deleted or was never there."""
    for found in c.execute(_SESSIONS.format("AND s.id = ?"), (session,)):
        return SessionRow(**found)
    raise NotFound("no such session")


def live_nodes(c: Connection, session: str) -> list[sqlite3.Row]:
    """The branches of a session that are not deleted, oldest first."""
    return c.execute(
        "SELECT * FROM nodes WHERE session = ? AND deleted_by IS NULL ORDER BY created, id",
        (session,),
    ).fetchall()


def live_node(c: Connection, node: str) -> sqlite3.Row:
    """Raises NotFound when it, or its session, is deleted or was never there."""
    return _one(c.execute(_LIVE_NODE, (node,)))


def any_node(c: Connection, node: str) -> sqlite3.Row:
    """A branch, deleted or not. Raises NotFound when it was never there."""
    return _one(c.execute("SELECT * FROM nodes WHERE id = ?", (node,)))


def _one(found: Iterable[sqlite3.Row]) -> sqlite3.Row:
    for row in found:
        return row
    raise NotFound("no such branch")


def below(c: Connection, node: str) -> list[str]:
    """A branch and everything that grew from it and is not deleted."""
    return [r["id"] for r in c.execute(_BELOW, (node,))]


def doomed(c: Connection, before: str, running: str) -> list[str]:
    """Branches deleted at ``before`` or earlier. ``running``: ids as a JSON list, to be spared."""
    return [r["id"] for r in c.execute(_DOOMED, {"before": before, "running": running})]


def change(c: Connection, table: str, row: str, **values: Any) -> None:
    """Set columns of one row. The names are the caller's own words, never input."""
    given = ", ".join(f"{name} = :{name}" for name in values)
    c.execute(f"UPDATE {table} SET {given} WHERE id = :id", {**values, "id": row})  # noqa: S608


def add(c: Connection, table: str, **values: Any) -> None:
    """A new row. The names are the caller's own words, never input."""
    names = ", ".join(values)
    marks = ", ".join(f":{n}" for n in values)
    c.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608


def touch(c: Connection, session: str, **values: str) -> None:
    """The session was changed just now."""
    change(c, "sessions", session, updated=now(), **values)
