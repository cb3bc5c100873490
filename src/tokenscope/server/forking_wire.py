"""The wire of forking tokens; rules as in ``wire``: no defaults, nulls always sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.explore_wire import Index, OutcomeKey
from tokenscope.server.wire import (
    DoneEvent,
    ErrorEvent,
    Finite,
    ProgressEvent,
    Request,
    Response,
    StopString,
)

Language = Annotated[str, Field(max_length=32)]
GateName = Literal["entropy", "margin", "viable"]


class ForkingRequest(Request):
    """Which generated tokens change what comes of the text; docs/explore.md.

    ``gate``: ``entropy`` or ``viable`` (entropy among the alternatives that could go on to parse)
    of at least ``threshold`` nats, or ``margin`` of at most that. ``region``: [start, end) of the
    tokens to look at, null: the generated ones. ``horizon``: tokens that alternatives are followed
    for, null: to where the branch ends. ``check``: skipped tokens, drawn with ``seed``, that are
    measured too.
    """

    gate: GateName = "entropy"
    threshold: Annotated[Finite, Field(ge=0, le=100)] = 0.5
    width: Annotated[int, Field(ge=2, le=256)] = 4
    outcome: OutcomeKey = "syntax"
    stop: Annotated[list[StopString], Field(max_length=16)] = Field(default=[])
    check: Annotated[int, Field(ge=0, le=10_000)] = 8
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    horizon: Annotated[int, Field(ge=1, le=10_000)] | None = None
    region: Annotated[list[Index], Field(min_length=2, max_length=2)] | None = None
    language: Language = ""


class ForkingStart(Response):
    """First event. Of the ``tokens`` from ``at`` on the gate opened at ``gated``; ``checked`` of
    the ``skipped`` are measured too. ``branches`` are followed, of ``most_tokens`` at most."""

    type: Literal["start"]
    run: str
    at: int
    tokens: int
    gated: int
    skipped: int
    checked: int
    branches: int
    most_tokens: int
    gate: GateName
    threshold: float
    outcome: str


class ForkOutcome(Response):
    """An outcome at a place: its mass there. ``own``: that of what was written."""

    label: str
    mass: float
    own: bool


class ForkAlternative(Response):
    """A token of a place, followed greedily: its mass there, the outcome that it leads to (an index
    of ``outcomes``) and the text from it on. The token that was written stands first."""

    id: int
    mass: float
    outcome: int
    text: str


class ForkPlace(Response):
    """A measured token. ``fork_tv``: mass of the alternatives that lead to another outcome;
    ``high``: with all that was not followed, ``rest``. ``gated``: the gate opened, else it was
    measured to check the gate. ``semantic`` + ``cosmetic``: the entropy of what is told apart
    here, nats."""

    at: int
    text: str
    fork_tv: float
    high: float
    gated: bool
    semantic: float
    cosmetic: float
    outcomes: list[ForkOutcome]
    alternatives: list[ForkAlternative]
    rest: float


class ForkPlaceEvent(Response):
    """A place, as soon as it is measured."""

    type: Literal["place"]
    place: ForkPlace


class GateChecked(Response):
    """Of ``n`` skipped places that were measured, ``missed`` reach a fork_tv of 0.1; ``most``: the
    largest; ``low``, ``high``: the 95 % interval of the share of missed ones."""

    n: int
    most: float
    missed: int
    low: float
    high: float


class ForkingDone(Response):
    """Near the end: what was skipped, what the gate may have missed, and the columns, a value for
    each of the tokens from ``at`` of the start event on (null: not measured). ``fork_gate``: 1 the
    gate opened, 0.5 checked, 0 skipped. All are an estimate: each alternative stands for one greedy
    way on."""

    type: Literal["columns"]
    skipped: int
    skipped_share: float
    checked: GateChecked
    decoded: int
    fork_tv: list[float | None]
    fork_gate: list[float | None]
    semantic: list[float | None]
    cosmetic: list[float | None]


ForkingEvent = Annotated[
    ForkingStart | ProgressEvent | ForkPlaceEvent | ForkingDone | DoneEvent | ErrorEvent,
    Field(discriminator="type"),
]


class ForkingMessage(Response):
    """An event of a measurement of forking tokens, as it travels."""

    run: str
    node: str
    kind: Literal["forking"]
    event: ForkingEvent
