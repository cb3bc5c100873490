"""The wire of steering vectors; rules as in ``wire``: no defaults, nulls always sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.wire import ModelId, Request, Response

Prompts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100_000)]],
    Field(min_length=1, max_length=500),
]


class SteeringRequest(Request):
    """A vector from two sets of prompts: the mean residual stream before ``layer`` over the
    ``positive`` ones less that over the ``negative`` ones, at each prompt's ``last`` token or over
    the ``mean`` of its tokens but the first. ``name``: to know it by later."""

    name: Annotated[str, Field(max_length=100)] = ""
    positive: Prompts
    negative: Prompts
    layer: Annotated[int, Field(ge=0, le=10_000)]
    over: Literal["last", "mean"] = "last"
    model: ModelId | None = None


class SteeringVectorInfo(Response):
    """A kept vector. ``digest``: what the edit ``steer`` names it by. ``norm``: its length;
    ``residual``: the mean length of the stream there on its prompts; ``ratio``: norm / residual,
    how large a step of strength 1 is. ``offer``: the id of the loaded model that it belongs to
    (null: none that is loaded). ``prompts_sha256``: of both sets of prompts."""

    digest: str
    name: str
    layer: int
    norm: float
    residual: float
    ratio: float
    size: int
    model: str
    model_digest: str
    offer: str | None
    over: str
    positive: int
    negative: int
    prompts_sha256: str
