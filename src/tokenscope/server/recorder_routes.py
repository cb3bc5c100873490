"""The recorder as the page sees it: whether it is on, what it has done, pause."""

from __future__ import annotations

from fastapi import APIRouter

from tokenscope.errors import AbilityError
from tokenscope.server import wire
from tokenscope.server.house import House, TheHouse

router = APIRouter(prefix="/api")


@router.get("/recorder")
def recorder_route(house: TheHouse) -> wire.RecorderInfo:
    """Whether completions of other programs are taken, and recorded."""
    return _info(house)


@router.patch("/recorder")
def pause_route(body: wire.RecorderRequest, house: TheHouse) -> wire.RecorderInfo:
    """Pause: clients are answered as before, and nothing is recorded."""
    if house.recorder is None:
        raise AbilityError("the recorder is off; start the server with --recorder")
    house.recorder.paused = body.paused
    return _info(house)


def _info(house: House) -> wire.RecorderInfo:
    held = house.recorder
    if held is None:
        return wire.RecorderInfo(
            on=False, paused=False, requests=0, recorded=0, refused=0, redacts=False,
            keep_days=None, rate=None, edits=[], calls=[],
        )  # fmt: skip
    return wire.RecorderInfo(
        on=True, paused=held.paused, requests=held.requests, recorded=held.recorded,
        refused=held.refused, redacts=held.redaction is not None, keep_days=held.keep or None,
        rate=held.limits.rate, edits=[e.kind for e in held.edits],
        calls=[
            wire.RecorderCall(
                at=c.at, client=c.client, kind=c.kind, model=c.model, streamed=c.streamed,
                choices=c.choices, state=c.state, finish=c.finish, prompt_tokens=c.prompt_tokens,
                tokens=c.tokens, seconds=c.seconds, session=c.session, node=c.node, error=c.error,
            )
            for c in held.calls.last()
        ],
    )  # fmt: skip
