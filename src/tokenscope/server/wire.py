"""The wire: every request, response and stream event that page and server exchange.

Rules. Response fields carry no defaults and nulls are always sent. Bytes travel as base64.
Columns travel as little-endian float32 (see the ``columns`` route), NaN where undefined; in JSON
an undefined number is null. Positions are token indices; offsets are bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tokenscope.server.edit_wire import AnyEdit

MAX_TEXT = 1_000_000
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ModelId = Annotated[str, Field(max_length=100)]
StopString = Annotated[str, Field(min_length=1, max_length=200)]


class Request(BaseModel):
    """A body from outside: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Response(BaseModel):
    """A body to the page: every field is sent."""

    model_config = ConfigDict(frozen=True)


# --- the model --------------------------------------------------------------------------------
class ColumnInfo(Response):
    """A column's header, enough to draw it. ``lo``/``hi``: ends of the scale, null = open."""

    name: str
    title: str
    unit: str
    formula: str
    source: str
    lo: float | None
    hi: float | None
    better: Literal["low", "high", "none"]
    scale: Literal["linear", "log"]


class AbilityInfo(Response):
    """What the loaded model can do; the page hides or explains what it cannot."""

    scores: Literal["full", "top"]
    attention: bool
    fork: Literal["crop", "copy", "none"]
    infill: bool
    chat: bool
    internals: bool


class ModelResponse(Response):
    """The model bar. A size is null where the backend (a server) does not tell it.

    ``start_token``: the literal put before plain prompts, "" for none. ``expert_layers``: those
    that are mixtures of experts. ``errors``: column -> how far 16-bit arithmetic moves it, in the
    column's own unit; {} for float32.
    """

    name: str
    architecture: str
    backend: str
    parameters: int | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    hidden: int | None
    vocab: int | None
    context: int | None
    dtype: str
    device: str
    kernel: str
    model_digest: str
    tokenizer_digest: str
    attention_layers: list[int]
    expert_layers: list[int]
    start_token: str
    errors: dict[str, float]
    notes: list[str]
    abilities: AbilityInfo
    columns: list[ColumnInfo]
    version: str


class ModelState(Response):
    """A model that the server offers. ``bytes``: its weights on the disk; ``digest``: once it was
    loaded; ``error``: why it could not be loaded. ``address``: its entry in the library; ``dtype``:
    as it is loaded, else as asked for; ``taken``: bytes of memory while it is loaded; ``in_use``:
    a run holds it; ``run``: the job that loads it just now."""

    id: str
    name: str
    state: Literal["loaded", "loading", "unloaded", "failed"]
    bytes: int | None
    digest: str | None
    error: str | None
    address: str
    dtype: str | None
    max_memory: int | None
    taken: int | None
    in_use: bool
    run: str | None


class GalleryItem(Response):
    """One prompt worth trying. ``suffix`` is set for an infill."""

    id: str
    title: str
    why: str
    kind: Literal["complete", "infill"]
    language: str
    prompt: str
    suffix: str | None
    max_new_tokens: int


class RecorderCall(Response):
    """One request to the recorder; no text of it. ``client``: the product that it names;
    ``choices`` asked for; ``node``: the branch of the first, None where nothing was recorded;
    ``error``: the code of what was refused or failed."""

    at: str
    client: str
    kind: Literal["completion", "chat"]
    model: str
    streamed: bool
    choices: int
    state: Literal["running", "done", "failed", "left"]
    finish: str | None
    prompt_tokens: int
    tokens: int
    seconds: float | None
    session: str | None
    node: str | None
    error: str | None


class RecorderInfo(Response):
    """The recorder (``/v1``). ``requests`` asked since the start, ``recorded`` as branches,
    ``refused`` for rate or room; ``redacts``: private spans are left out of records; ``rate``:
    requests a minute that are taken; ``edits``: the kinds that are in force for every completion;
    ``calls``: the last requests, the latest first."""

    on: bool
    paused: bool
    requests: int
    recorded: int
    refused: int
    redacts: bool
    keep_days: float | None
    rate: int | None
    edits: list[str]
    calls: list[RecorderCall]


# --- requests ---------------------------------------------------------------------------------
class Settings(Request):
    """How to decode. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 are off.

    ``edits``: standing edits; the ``edits`` route tells the kinds.
    """

    max_new_tokens: Annotated[int, Field(ge=0, le=100_000)] = 128
    temperature: Annotated[Finite, Field(ge=0, le=10)] = 0.0
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    top_p: Annotated[Finite, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[Finite, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[Finite, Field(gt=0, le=10)] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    stop: Annotated[list[StopString], Field(max_length=16)] = []
    alternatives: Annotated[int, Field(ge=0, le=100)] = 10
    attention: Literal["none", "top", "full"] = "top"
    edits: Annotated[list[AnyEdit], Field(max_length=32)] = []


class Message(Request):
    """One message of a chat prompt."""

    role: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    content: Text


class GenerateRequest(Request):
    """A new root branch. Exactly one of: ``prompt``; ``messages``; ``prompt`` with ``suffix``.

    ``model``: the id of a loaded one; without it the first.
    """

    prompt: Text | None = None
    suffix: Text | None = None
    messages: Annotated[list[Message], Field(max_length=1000)] | None = None
    model: ModelId | None = None
    language: Annotated[str, Field(max_length=32)] = ""
    settings: Settings = Settings()


class ForkRequest(Request):
    """A branch that differs from its parent at token ``at``.

    Exactly one of ``token_id``, ``token_ids`` and ``text``; ``text`` "" continues from ``at`` as
    it stands. Text is put in as bytes in place of everything from token ``at`` on.
    """

    at: Annotated[int, Field(ge=0)]
    token_id: Annotated[int, Field(ge=0)] | None = None
    token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=10_000)] | None = None
    text: Text | None = None
    settings: Settings = Settings()


class ScoreRequest(Request):
    """Teacher forcing over code that someone else wrote. ``model``: as in GenerateRequest."""

    text: Text
    model: ModelId | None = None
    language: Annotated[str, Field(max_length=32)] = ""
    alternatives: Annotated[int, Field(ge=0, le=100)] = 10


class OfferRequest(Request):
    """A model of the library in a form of its own. ``dtype``: None for what fits; ``max_memory``:
    bytes that the process may take, the rest stays on the disk."""

    address: Annotated[str, Field(min_length=1, max_length=4000)]
    dtype: Literal["float32", "bfloat16", "float16", "int8"] | None = None
    max_memory: Annotated[int, Field(ge=1, lt=2**53)] | None = None


class RecorderRequest(Request):
    """Pause the recorder, or go on."""

    paused: bool


class TitleRequest(Request):
    """A new title."""

    title: Annotated[str, Field(min_length=1, max_length=200)]


class NodeRequest(Request):
    """What the reader says of a branch: a title, a note, a bookmark. null leaves it as it is."""

    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    note: Annotated[str, Field(max_length=10_000)] | None = None
    starred: bool | None = None


class NewSessionRequest(Request):
    """A new session; without a title it is named after its first prompt."""

    title: Annotated[str, Field(max_length=200)] = ""


# --- sessions and branches --------------------------------------------------------------------
class Summary(Response):
    """Figures of the generated part; null where undefined."""

    tokens: int
    prompt_tokens: int
    generated_tokens: int
    mean_surprisal: float | None
    perplexity: float | None
    bits_per_byte: float | None
    joint_logprob: float | None
    mean_entropy: float | None
    tokens_per_s: float | None


class NodeInfo(Response):
    """One branch in the tree. ``at``: the first token that differs from the parent's.

    ``excerpt``: one line from there; ``own_logprob``: joint logprob (nats) and ``own_surprisal``:
    mean surprisal of what differs; ``turn_logprob``: of the first token that differs (null for a
    root, and where it is not known); ``note``, ``starred``: the reader's own; ``status``:
    ``running`` while it decodes, ``interrupted`` when a crash or the disk ended it; the
    acknowledged part is kept. ``model``: the one that made it.
    """

    id: str
    session: str
    parent: str | None
    at: int
    title: str
    excerpt: str
    status: Literal["running", "done", "interrupted"]
    finish: str
    form: str
    created: str
    summary: Summary
    own_tokens: int
    own_logprob: float | None
    own_surprisal: float | None
    turn_logprob: float | None
    note: str
    starred: bool
    model: str
    model_digest: str


class SessionInfo(Response):
    """One session in the list."""

    id: str
    title: str
    created: str
    updated: str
    branches: int
    tokens: int


class SessionResponse(Response):
    """A session with all its branches, oldest first."""

    id: str
    title: str
    created: str
    updated: str
    nodes: list[NodeInfo]


class SpecialToken(Response):
    """A token that has no bytes in the text, and what to show in its place."""

    index: int
    label: str


class Piece(Response):
    """The bytes of an id that occurs among the alternatives (label: special ones)."""

    id: int
    bytes: str
    label: str | None


class TraceResponse(Response):
    """A whole trace but its numbers, which the ``columns`` and ``alternatives`` routes send.

    ``data``: base64 of all bytes; ``offsets``: T+1 byte offsets; ``ids``: T token ids.
    """

    node: NodeInfo
    n_prompt: int
    language: str
    ids: list[int]
    offsets: list[int]
    data: str
    specials: list[SpecialToken]
    columns: list[str]
    qualities: list[Literal["exact", "bound", "estimate"]]
    k: int
    pieces: list[Piece]
    attention: Literal["none", "top", "full"]
    attention_first: int
    attention_count: int
    origin: dict[str, object]


# --- jobs -------------------------------------------------------------------------------------
class JobInfo(Response):
    """A job of the server and where it stands: ``done`` of ``total`` pieces of ``what``.

    ``node``: the branch that it writes or explains; ``left_s``: seconds that it may still take,
    by the pieces done so far.
    """

    run: str
    kind: Literal[
        "generate", "fork", "score", "explain", "explore", "forking", "ledger", "patch", "load",
        "fetch", "audit",
    ]  # fmt: skip
    node: str | None
    session: str | None
    running: bool
    done: int
    total: int | None
    what: str
    left_s: float | None


class HelloEvent(Response):
    """First event of a view: the jobs in it as they stand. It is no event of a job: no id."""

    type: Literal["hello"]
    jobs: list[JobInfo]


# --- the stream -------------------------------------------------------------------------------
class StartEvent(Response):
    """First event. ``shared`` tokens come from the parent: the page copies them."""

    type: Literal["start"]
    run: str
    node: NodeInfo
    shared: int
    total: int | None


class StepEvent(Response):
    """n tokens from index ``start`` on (a prefill sends many, a decoding step one).

    ``columns[name]`` has n values; ``alternative_ids`` and ``alternative_logprobs`` n rows.
    A row is empty where there are none (token 0). ``specials`` count from the start of the branch.
    ``prompt``: these tokens were given. ``pieces``: ids not seen before in the stream.
    """

    type: Literal["step"]
    start: int
    ids: list[int]
    bytes: list[str]
    specials: list[SpecialToken]
    prompt: bool
    columns: dict[str, list[float | None]]
    alternative_ids: list[list[int]]
    alternative_logprobs: list[list[float]]
    pieces: list[Piece]


class ProgressEvent(Response):
    """``done`` of ``total`` pieces of the stage ``what`` (``prompt``: tokens of the prompt)."""

    type: Literal["progress"]
    done: int
    total: int
    what: str


class CommittedEvent(Response):
    """The first ``tokens`` tokens of the branch are on the disk and survive a power cut.

    (A step is written before it is sent, so what was sent survives the death of the server.)
    """

    type: Literal["committed"]
    tokens: int


class WaitingEvent(Response):
    """The disk has not answered for so many seconds: the run waits for it, nothing is lost. Any
    later event of the run says that it has answered."""

    type: Literal["waiting"]
    seconds: float


class EndEvent(Response):
    """Last event of a run that ended well (also when it was cancelled)."""

    type: Literal["end"]
    finish: str
    node: NodeInfo


class DoneEvent(Response):
    """Last event of a job that writes no branch, when it ended well or was cancelled."""

    type: Literal["done"]
    finish: Literal["done", "cancelled"]


class ErrorEvent(Response):
    """Last event of a run that failed; what was acknowledged is kept."""

    type: Literal["error"]
    code: str
    message: str


StreamEvent = Annotated[
    StartEvent | StepEvent | ProgressEvent | CommittedEvent | WaitingEvent | EndEvent | ErrorEvent,
    Field(discriminator="type"),
]


class StreamMessage(Response):
    """An event of a job that decodes, as it travels. Its id is that of the server-sent event."""

    run: str
    node: str
    kind: Literal["generate", "fork", "score"]
    event: StreamEvent


class ErrorResponse(Response):
    """Every 4xx and 5xx: never the input, never a traceback. ``fits``: tokens that would fit."""

    code: str
    message: str
    field: str | None
    fits: int | None
