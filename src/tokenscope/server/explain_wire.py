"""The wire of explanations; rules as in ``wire``: no defaults, nulls always sent.

Every number carries, through ``definitions``, the name of its formula and source.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.wire import DoneEvent, ErrorEvent, ProgressEvent, Request, Response

Cell = str | int | float | list[float | None] | list[str] | None
Names = Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=16)]
Index = Annotated[int, Field(ge=0, le=2**31 - 1)]


class DefinitionInfo(Response):
    """What a number means. ``limits``: what it does not show."""

    name: str
    group: str
    title: str
    unit: str
    formula: str
    source: str
    limits: str


class MethodInfo(Response):
    """A method of attribution; its definition has the same name. ``cost``: in forwards."""

    name: str
    cost: str


class LayerInfo(Response):
    """What attention a layer has. ``window`` 0: all keys; ``kv_heads`` below ``heads``: grouped."""

    layer: int
    attention: bool
    heads: int
    kv_heads: int
    window: int
    sinks: bool


class ExplainInfo(Response):
    """What can be asked. ``statistics``: the order in which the heads route sends them."""

    definitions: list[DefinitionInfo]
    methods: list[MethodInfo]
    tables: list[str]
    statistics: list[str]
    patterns: list[str]
    layers: list[LayerInfo]


class ExplainRequest(Request):
    """Why token ``at``, perhaps rather than ``contrast``. ``token``: instead of the one there."""

    at: Index
    contrast: Index | None = None
    token: Index | None = None
    method: Annotated[str, Field(max_length=40)] = "occlusion"
    tables: Names = Field(default_factory=list)


class AblateRequest(Request):
    """One part to take out. An edge takes ``query`` and ``key``; null layer or head means all."""

    at: Index
    contrast: Index | None = None
    token: Index | None = None
    part: Literal["head", "mlp", "edge"]
    layer: Index | None = None
    head: Index | None = None
    query: Index | None = None
    key: Index | None = None
    how: Literal["zero", "mean", "cut"] = "mean"


class AblateResponse(Response):
    """``value``: f(x) in nats; ``effect``: f(x) - f(x without the part)."""

    value: float
    effect: float


class FoundHead(Response):
    """A head and how well it fits the pattern."""

    layer: int
    head: int
    score: float


class ReasonInfo(Response):
    """A span of bytes, what the attribution gives it, and what taking it out does (nats)."""

    text: str
    line: int
    start: int
    end: int
    kind: str
    attribution: float
    drop: float


class EvidenceInfo(Response):
    """Beside the sentence: f without the text (nats), and how the named span compares."""

    prior: float
    tried: int
    size: int | None
    rank: int | None
    of: int | None
    recency: float | None


class PatchRequest(Request):
    """Where the difference between this text and ``corrupt`` is carried, for the choice of token
    ``at``. ``corrupt``: the whole text before that token, changed somewhere."""

    at: Index
    corrupt: Annotated[str, Field(min_length=1, max_length=200_000)]
    token: Index | None = None
    contrast: Index | None = None
    parts: Annotated[
        list[Literal["residual", "attention", "mlp", "heads"]], Field(min_length=1, max_length=4)
    ] = Field(default=["residual"])
    noising: bool = False


class PatchStart(Response):
    """First event of a patch map: what it will cost; cancel with the runs route."""

    type: Literal["start"]
    run: str
    cost: str
    runs: int


class PatchPart(Response):
    """``effect``: the share of the difference that moved; rows are layers, columns the base's
    tokens (for ``heads`` the heads). Null: no such place."""

    name: str
    effect: list[list[float | None]]


class PatchEvent(Response):
    """A patch map. ``clean``, ``corrupt``: f of the two texts, nats; ``columns``: the base's
    tokens, of which the first ``same`` are those of both texts."""

    type: Literal["patch"]
    direction: Literal["denoising", "noising"]
    clean: float
    corrupt: float
    token: str
    token_id: int
    contrast: str | None
    contrast_id: int | None
    columns: list[str]
    same: int
    parts: list[PatchPart]
    definitions: list[str]


class ExplainStart(Response):
    """First event; cancel with the runs route."""

    type: Literal["start"]
    run: str
    tables: list[str]


class AttributionEvent(Response):
    """The attribution: ``values`` nats per token before ``at``; ``value`` f(x); see Explanation."""

    type: Literal["attribution"]
    sentence: str
    at: int
    token: str
    token_id: int
    contrast: str | None
    contrast_id: int | None
    target: str
    method: str
    value: float
    gap: float | None
    converged: bool
    note: str
    logprob: float
    logprob_contrast: float | None
    values: list[float | None]
    reasons: list[ReasonInfo]
    evidence: EvidenceInfo | None
    beside: str


class TableEvent(Response):
    """One table; ``definitions`` names what its numbers mean. ``refused``: no rows, see note."""

    type: Literal["table"]
    name: str
    rows: list[dict[str, Cell]]
    definitions: list[str]
    note: str
    refused: bool


ExplainEvent = Annotated[
    ExplainStart | ProgressEvent | AttributionEvent | TableEvent | DoneEvent | ErrorEvent,
    Field(discriminator="type"),
]

PatchStreamEvent = Annotated[
    PatchStart | ProgressEvent | PatchEvent | DoneEvent | ErrorEvent,
    Field(discriminator="type"),
]


class ExplainMessage(Response):
    """An event of an explanation, as it travels."""

    run: str
    node: str
    kind: Literal["explain"]
    event: ExplainEvent


class PatchMessage(Response):
    """An event of a patch map, as it travels."""

    run: str
    node: str
    kind: Literal["patch"]
    event: PatchStreamEvent


class ExpertInfo(Response):
    """``weight``: by which the layer multiplies what the expert says; None where it was not
    asked."""

    expert: int
    probability: float
    chosen: bool
    weight: float | None


class ExpertsOfLayer(Response):
    """A layer of a mixture at one step: the router's ``entropy`` (nats) and its experts, those
    that were asked first."""

    layer: int
    entropy: float
    experts: list[ExpertInfo]
