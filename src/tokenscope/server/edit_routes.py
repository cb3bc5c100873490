"""What edits there are. The edits themselves go with the settings of every decoding."""

from __future__ import annotations

from fastapi import APIRouter

from tokenscope.server import edit_wire as wire

router = APIRouter(prefix="/api")


@router.get("/edits")
def edits_route() -> wire.EditsInfo:
    """The kinds of edits, with help and fields: enough to make a form."""
    return wire.EditsInfo(kinds=wire.kinds())
