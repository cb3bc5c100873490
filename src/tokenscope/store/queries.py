"""The questions that are asked of the database more than once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, select

from tokenscope.errors import NotFound
from tokenscope.store.rows import SessionRow, now
from tokenscope.store.tables import NODES, SESSIONS


def session_rows() -> Select[Any]:
    """Sessions that are not deleted, with the number of their branches and tokens."""
    alive = (NODES.c.session == SESSIONS.c.id) & NODES.c.deleted_by.is_(None)
    return (
        select(
            SESSIONS.c.id, SESSIONS.c.title, SESSIONS.c.created, SESSIONS.c.updated,
            func.count(NODES.c.id).label("branches"),
            func.coalesce(func.sum(NODES.c.own_tokens), 0).label("tokens"),
        )
        .select_from(SESSIONS.outerjoin(NODES, alive))
        .where(SESSIONS.c.deleted.is_(None))
        .group_by(SESSIONS.c.id)
    )  # fmt: skip


def live_session(c: Connection, session: str) -> SessionRow:
    """Raises NotFound when it is deleted or was never there."""
    found = c.execute(session_rows().where(SESSIONS.c.id == session)).mappings().one_or_none()
    if found is None:
        raise NotFound("no such session")
    return SessionRow(**found)


def live_node(c: Connection, node: str) -> RowMapping:
    """Raises NotFound when it, or its session, is deleted or was never there."""
    found = c.execute(
        select(NODES)
        .join(SESSIONS, SESSIONS.c.id == NODES.c.session)
        .where(NODES.c.id == node, NODES.c.deleted_by.is_(None), SESSIONS.c.deleted.is_(None))
    ).mappings().one_or_none()  # fmt: skip
    if found is None:
        raise NotFound("no such branch")
    return found


def any_node(c: Connection, node: str) -> RowMapping:
    """A branch, deleted or not. Raises NotFound when it was never there."""
    found = c.execute(select(NODES).where(NODES.c.id == node)).mappings().one_or_none()
    if found is None:
        raise NotFound("no such branch")
    return found


def below(c: Connection, node: str) -> list[str]:
    """A branch and everything that grew from it and is not deleted."""
    tree = select(NODES.c.id).where(NODES.c.id == node).cte(recursive=True)
    tree = tree.union_all(
        select(NODES.c.id).join(tree, NODES.c.parent == tree.c.id).where(
            NODES.c.deleted_by.is_(None)
        )
    )  # fmt: skip
    return list(c.execute(select(tree.c.id)).scalars())


def hidden(c: Connection, node: str) -> bool:
    """Whether a branch is deleted."""
    return any_node(c, node)["deleted_by"] is not None


def touch(c: Connection, session: str, **values: str) -> None:
    """The session was changed just now."""
    c.execute(SESSIONS.update().where(SESSIONS.c.id == session).values(updated=now(), **values))
