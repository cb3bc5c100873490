"""The wire of ledgers; rules as in ``wire``: no defaults, nulls always sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.edit_wire import AnyEdit
from tokenscope.server.explore_wire import OutcomeKey
from tokenscope.server.wire import (
    DoneEvent,
    ErrorEvent,
    ModelId,
    ProgressEvent,
    Request,
    Response,
    Settings,
)

Prompt = Annotated[str, Field(min_length=1, max_length=200_000)]


class ArmRequest(Request):
    """An arm: edits under a name; ``none`` is there by itself."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    edits: Annotated[list[AnyEdit], Field(min_length=1, max_length=32)]


class LedgerRequest(Request):
    """Every prompt under every arm and under no edits, with the same seeds; docs/edits.md.

    ``draws``: seeds of each prompt (more than 1 needs a temperature). ``reference``: a text on
    which the damage of each arm is measured ("": none). ``model``: the id of a loaded one.
    """

    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=1000)]
    arms: Annotated[list[ArmRequest], Field(min_length=1, max_length=32)]
    outcome: OutcomeKey = "syntax"
    reference: Annotated[str, Field(max_length=200_000)] = ""
    draws: Annotated[int, Field(ge=1, le=64)] = 1
    language: Annotated[str, Field(max_length=32)] = ""
    settings: Settings = Settings(max_new_tokens=32)
    model: ModelId | None = None


class LedgerDefinition(Response):
    """What a figure means."""

    name: str
    text: str


class LedgerStart(Response):
    """First event: the arms in the order in which they come, and what is decoded."""

    type: Literal["start"]
    run: str
    model: str
    arms: list[str]
    prompts: int
    draws: int
    runs: int
    outcome: str
    definitions: list[LedgerDefinition]


class IntervalInfo(Response):
    """A mean over ``n`` prompts with its 95 % bootstrap interval; null where it is not known."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


class LedgerFigure(Response):
    """A figure of an arm, and its paired difference from no edits."""

    name: str
    value: IntervalInfo
    against_none: IntervalInfo


class LedgerOutcome(Response):
    """An outcome: in how many ``runs``, which ``share`` of them with its interval (of the eight
    most frequent), and the paired difference from no edits. ``label``: what one of them wrote."""

    outcome: str
    label: str
    runs: int
    share: float
    interval: IntervalInfo
    against_none: IntervalInfo


class DamageInfo(Response):
    """On the reference text: mean KL(edited || own), nats per token; the share of positions with
    the same top; the text's own nats before and after (null: a mask forbids it). ``left_out``:
    kinds that say nothing about another text."""

    kl: float | None
    same_top: float
    nats: float
    nats_edited: float | None
    tokens: int
    left_out: list[str]


class LedgerArm(Response):
    """An arm as soon as it is measured. The first is ``none``."""

    type: Literal["arm"]
    name: str
    figures: list[LedgerFigure]
    outcomes: list[LedgerOutcome]
    damage: DamageInfo | None


class LedgerDone(Response):
    """Near the end: the arms that no other arm beats in both, change and damage (none where no
    damage was measured)."""

    type: Literal["ledger"]
    stands_out: list[str]


LedgerEvent = Annotated[
    LedgerStart | ProgressEvent | LedgerArm | LedgerDone | DoneEvent | ErrorEvent,
    Field(discriminator="type"),
]


class LedgerMessage(Response):
    """An event of a ledger, as it travels. ``node``: always empty; it belongs to no branch."""

    run: str
    node: str
    kind: Literal["ledger"]
    event: LedgerEvent
