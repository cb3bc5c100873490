"""The wire of explorations; rules as in ``wire``: no defaults, nulls always sent.

A branch of an exploration becomes one of the session by a fork: ``at`` of the start event and
``ids`` of the branch as ``token_ids``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.edit_wire import AnyEdit
from tokenscope.server.wire import (
    DoneEvent,
    ErrorEvent,
    Finite,
    ProgressEvent,
    Request,
    Response,
    StopString,
)

Index = Annotated[int, Field(ge=0, le=2**31 - 1)]
OutcomeKey = Annotated[
    str, Field(max_length=2_000, pattern=r"^(bytes$|syntax($|:)|regex:|query:)")
]  # fmt: skip


class ExploreRequest(Request):
    """What to follow from token ``at`` on (null: the first generated one); docs/explore.md.

    ``depth`` null: no limit. ``region``: [start, end) of the tokens at which decisions may lie.
    ``outcome``: bytes, syntax, regex:PATTERN or query:PATTERN. ``temperature``, ``top_p``,
    ``seed``, ``edits``: null: as the branch was drawn. ``resume``: the run of an
    exploration of this branch that is to be gone on with. ``masses_of``: the ``model``'s own
    distribution, or what is ``drawn`` from: after the edits and the sampler of the branch, changed
    by ``edits``, ``temperature``, ``top_p`` (the sampled way always draws). ``memory``: bytes that
    all branches may hold (null: a share of what is free).
    """

    at: Index | None = None
    way: Literal["enumerated", "sampled", "greedy"] = "enumerated"
    width: Annotated[int, Field(ge=1, le=256)] = 4
    depth: Annotated[int, Field(ge=0, le=10_000)] | None = 2
    cover: Annotated[Finite, Field(ge=0, le=1)] = 1.0
    gate: Annotated[Finite, Field(ge=0, le=100)] = 0.0
    region: Annotated[list[Index], Field(min_length=2, max_length=2)] | None = None
    horizon: Annotated[int, Field(ge=1, le=10_000)] = 12
    stop: Annotated[list[StopString], Field(max_length=16)] = Field(default=[])
    budget_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    most: Annotated[int, Field(ge=1, le=2_000)] = 500
    least: Annotated[Finite, Field(ge=0, le=1)] = 0.0
    draws: Annotated[int, Field(ge=1, le=10_000)] = 100
    outcome: OutcomeKey = "syntax"
    temperature: Annotated[Finite, Field(ge=0, le=10)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    masses_of: Literal["model", "drawn"] = "model"
    edits: Annotated[list[AnyEdit], Field(max_length=32)] | None = None
    memory: Annotated[int, Field(ge=1, le=2**50)] | None = None
    resume: Annotated[str, Field(max_length=64)] | None = None


class ExploreStart(Response):
    """First event: where it begins, and what it may take at most. ``seconds``: an estimate, null
    where no pass was timed yet. ``masses_of``: the distribution that masses are of: the ``model``'s
    own, after ``edits``, or the ``sampler``'s. ``allowed``: bytes that branches may hold."""

    type: Literal["start"]
    run: str
    at: int
    way: Literal["enumerated", "sampled", "greedy"]
    masses_of: Literal["model", "edits", "sampler"]
    outcome: str
    horizon: int
    branches: int
    tokens: int
    bytes: int
    allowed: int
    seconds: float | None


class ExploreBranch(Response):
    """A branch that was decoded. ``name``: its number, from 0 on; ``parent``: the branch that it
    leaves at token ``at`` (null: none). ``ids`` and ``text``: from the exploration's ``at`` on.
    ``text_mass``: the probability of its whole text. Its mass is in the state events."""

    type: Literal["branch"]
    name: int
    parent: int | None
    at: int
    ids: list[int]
    text: str
    finish: str
    text_mass: float


class ExploreOutcome(Response):
    """What some branches come to, most mass first; ``low``, ``high``: bounds of its probability
    (sampled: the Wilson interval). ``branches``: names, the one that is shown for it first."""

    name: str
    label: str
    mass: float
    low: float
    high: float
    branches: list[int]
    draws: int


class UnexploredParts(Response):
    """The mass that no branch holds, by where it went; see docs/explore.md."""

    other_tokens: float
    skipped: float
    waiting: float


class ExploreState(Response):
    """How things stand after a wave of branches. ``masses``, ``enumerated_to``, ``draws``: of
    each branch so far, by its name. ``unexplored``: 1 - their sum (sampled: the mass of all texts
    that were not drawn). Entropies in nats. ``bytes``: what branches hold by now; ``ended``: what
    was reached before all was decoded (null: nothing)."""

    type: Literal["state"]
    masses: list[float]
    enumerated_to: list[int]
    draws: list[int]
    outcomes: list[ExploreOutcome]
    unexplored: float
    parts: UnexploredParts
    entropy: float
    entropy_low: float
    entropy_high: float
    tokens: int
    bytes: int
    ended: Literal["tokens", "memory", "branches"] | None
    finished: bool


class LedTo(Response):
    """``mass`` of an alternative that comes to ``outcome``, by its name in the last state."""

    outcome: str
    mass: float


class ExploreAlternative(Response):
    """An alternative of a decision: its ``mass`` (of all texts, as those of branches), the part of
    it that each outcome gets, most first, and what is ``unexplored`` behind it."""

    id: int
    mass: float
    outcomes: list[LedTo]
    unexplored: float


class ExploreDecision(Response):
    """A decision: ``reach``: the mass that comes to it; ``entropy`` of all tokens there;
    ``semantic`` + ``cosmetic``: of what is told apart, nats. ``alternatives``: the branch's own
    token first; ``rest``: the mass of the tokens that no alternative took."""

    branch: int
    at: int
    reach: float
    entropy: float
    semantic: float
    cosmetic: float
    alternatives: list[ExploreAlternative]
    rest: float


class ExploreDecisions(Response):
    """Near the end: every decision, and the sums weighted by reach (semantic: the entropy of the
    outcomes). Empty where paths were drawn. The columns: of the tokens from ``at`` of the start
    event on along branch 0, null where nothing was decided."""

    type: Literal["decisions"]
    decisions: list[ExploreDecision]
    semantic: float
    cosmetic: float
    semantic_column: list[float | None]
    cosmetic_column: list[float | None]


ExploreEvent = Annotated[
    ExploreStart
    | ProgressEvent
    | ExploreBranch
    | ExploreState
    | ExploreDecisions
    | DoneEvent
    | ErrorEvent,
    Field(discriminator="type"),
]


class ExploreMessage(Response):
    """An event of an exploration, as it travels."""

    run: str
    node: str
    kind: Literal["explore"]
    event: ExploreEvent
