"""Gallery, sessions and branches: JSON in and out. Thin: parse, call, present."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Response

from tokenscope import export as exports
from tokenscope.server import present
from tokenscope.server.house import House, TheHouse
from tokenscope.server.wire import (
    GalleryItem,
    NewSessionRequest,
    NodeInfo,
    NodeRequest,
    SessionInfo,
    SessionResponse,
    TitleRequest,
    TraceResponse,
)
from tokenscope.store.shared import pack, take_in

router = APIRouter(prefix="/api")


@router.get("/gallery")
def gallery(house: TheHouse) -> list[GalleryItem]:
    """Prompts worth trying."""
    return house.gallery


@router.get("/sessions")
def sessions(house: TheHouse) -> list[SessionInfo]:
    """All sessions, the one changed last first."""
    return [present.session(row) for row in house.store.sessions()]


@router.post("/sessions")
def new_session(body: NewSessionRequest, house: TheHouse) -> SessionResponse:
    """An empty session."""
    return _whole(house, house.store.new_session(body.title).id)


@router.post("/sessions/import")
def import_session(
    file: Annotated[bytes, Body(media_type="application/octet-stream")], house: TheHouse
) -> SessionResponse:
    """A session of what is in a file: one trace, or a session that was exported as a file."""
    return _whole(house, take_in(house.store, file))


@router.get("/sessions/{session}")
def session(session: str, house: TheHouse) -> SessionResponse:
    """A session with its tree."""
    return _whole(house, session)


@router.patch("/sessions/{session}")
def rename_session(session: str, body: TitleRequest, house: TheHouse) -> SessionInfo:
    """Give a session another title."""
    return present.session(house.store.rename_session(session, body.title))


@router.delete("/sessions/{session}", status_code=204)
def delete_session(session: str, house: TheHouse) -> None:
    """Hide a session and stop its runs; ``restore`` brings it back until it is purged."""
    house.store.delete_session(session)
    house.jobs.cancel_of(session=session)


@router.post("/sessions/{session}/restore")
def restore_session(session: str, house: TheHouse) -> SessionInfo:
    """Undo ``delete``."""
    return present.session(house.store.restore_session(session))


@router.get(
    "/sessions/{session}/export",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {}, "text/csv": {}, "application/octet-stream": {}}}
    },
)
def export(
    session: str, house: TheHouse, format: Literal["json", "csv", "tscope"] = "json"
) -> Response:
    """The whole session as one file: to keep (JSON, CSV), or to be imported again (tscope)."""
    row = house.store.session(session)
    branches = [(n, house.store.trace(n.id)) for n in house.store.nodes(session)]
    text: str | bytes
    if format == "tscope":
        text, media = pack(row, branches), "application/octet-stream"
    else:
        text = exports.session(row, branches, format)
        media = "application/json" if format == "json" else "text/csv; charset=utf-8"
    name = f"tokenscope-{row.id}.{format}"
    return Response(
        text, media_type=media, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


@router.get("/nodes/{node}")
def node(node: str, house: TheHouse) -> TraceResponse:
    """A branch's trace without its numbers."""
    return present.trace(house.store.node(node), house.store.trace(node))


@router.patch("/nodes/{node}")
def annotate_node(node: str, body: NodeRequest, house: TheHouse) -> NodeInfo:
    """Give a branch a title, a note, a bookmark."""
    return present.node(house.store.annotate(node, body.title, body.note, body.starred))


@router.delete("/nodes/{node}", status_code=204)
def delete_node(node: str, house: TheHouse) -> None:
    """Hide a branch and all that grew from it; ``restore`` brings them back until purged."""
    for gone in house.store.delete_node(node):
        house.jobs.cancel_of(node=gone)


@router.post("/nodes/{node}/restore")
def restore_node(node: str, house: TheHouse) -> SessionResponse:
    """Undo ``delete`` of a branch."""
    return _whole(house, house.store.restore_node(node).session)


def _whole(house: House, session: str) -> SessionResponse:
    return present.whole(house.store.session(session), house.store.nodes(session))
