"""The wire of audits. What is not finite (an interval without an end) is null."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.evidence_wire import DecisionPoint, FindingResponse
from tokenscope.server.wire import (
    DoneEvent,
    ErrorEvent,
    Finite,
    ModelId,
    ProgressEvent,
    Request,
    Response,
    Text,
)

MOST_SAMPLES = 1000
CaseId = Annotated[str, Field(max_length=500)]


# --- asked ------------------------------------------------------------------------------------
class AuditRequest(Request):
    """Prompts of the gallery (``gallery``: their ids), an uploaded file (``prompts``: its text,
    JSON lines or CSV), or both; held against ``policy`` (TOML, "" for none).

    ``samples``, ``temperature`` ... go over what the policy says. ``model``: the id of a loaded
    one; without it the first.
    """

    title: Annotated[str, Field(max_length=200)] = ""
    model: ModelId | None = None
    gallery: list[Annotated[str, Field(max_length=64)]] = Field(default=[], max_length=200)
    prompts: Text = ""
    form: Literal["jsonl", "csv"] = "jsonl"
    policy: Annotated[str, Field(max_length=100_000)] = ""
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=10)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None


class OpenRequest(Request):
    """A sample to be opened as a branch."""

    case: CaseId
    sample: Annotated[int, Field(ge=0)] = 0


# --- answered ---------------------------------------------------------------------------------
class PolicyInfo(Response):
    """What a policy may say: ``checks``, those that run where it says nothing, figures that a
    gate may name, and an ``example`` to begin with."""

    checks: list[str]
    default_checks: list[str]
    figures: list[str]
    example: str


class AuditInfo(Response):
    """One audit in the list. ``status``: ``running``, or how it ended (``interrupted``: the server
    stopped; can be resumed like a cancelled or failed one, if ``resumable``).

    ``state``: what its gates came to, once it is done. ``run``: the job while it runs. ``done`` of
    ``total`` cases (null: unknown); ``left_s``: seconds that it may still take. ``samples``,
    ``findings``: null until it is done.
    """

    id: str
    title: str
    created: str
    model: str
    model_digest: str
    status: Literal["running", "done", "cancelled", "failed", "interrupted"]
    state: Literal["passed", "failed", "undecided", "no gates"] | None
    error: str | None
    run: str | None
    resumable: bool
    done: int
    total: int | None
    left_s: float | None
    samples: int | None
    findings: int | None
    errors: int | None


class BoundInfo(Response):
    """``value`` in ``lower..upper`` from ``n`` units, by ``method``."""

    value: float | None
    lower: float | None
    upper: float | None
    n: int
    method: str


class GateInfo(Response):
    """A gate: the ``end`` of the interval held against ``limit``. ``margin``: kept by so much, or
    missed by, where negative; ``why``: the same as a sentence."""

    gate: str
    figure: str
    operator: Literal["<=", ">="]
    limit: float
    end: Literal["lower", "upper"]
    state: Literal["passed", "failed", "undecided"]
    margin: float | None
    why: str
    bound: BoundInfo


class FigureInfo(Response):
    """A figure by its name, gate or not."""

    name: str
    bound: BoundInfo


class CaseInfo(Response):
    """A case, see ``evidence.review``. ``severity`` "": no finding but perhaps of syntax."""

    case: str
    path: str
    form: str
    line: int
    samples: int
    findings: int
    rules: list[str]
    severity: Literal["", "low", "medium", "high"]
    risk: BoundInfo
    parsed: int
    judged: int
    surprisal_max: float | None
    error: str | None
    excerpt: str


class MassInfo(Response):
    """The risk mass of a finding, where the policy asks for it; see ``RiskResponse``."""

    lower: float
    upper: float
    method: str
    at: int
    price: float | None
    said: str
    decisions: list[DecisionPoint]


class GroupInfo(Response):
    """The findings by one rule in one case: ``count`` of them, in a share ``risk`` of its samples.

    ``sample``, ``finding``: the first; ``line``, ``column`` (from 1) and ``snippet`` of it.
    """

    case: str
    path: str
    form: str
    sample: int
    count: int
    risk: BoundInfo
    finding: FindingResponse
    line: int
    column: int
    snippet: str
    mass: MassInfo | None


class RefusedInfo(Response):
    """A line or file that was no case, or a case that could not be done."""

    where: str
    line: int
    id: str
    reason: str


class DriftInfo(Response):
    """Drift from the baseline over tokens of one kind."""

    kind: str
    tokens: int
    flips: int
    mean_kl: float


class AuditFile(Response):
    """A file that can be fetched. ``bytes`` null: it is made when it is asked for."""

    name: str
    bytes: int | None
    type: str


class AuditResponse(Response):
    """An audit as far as it has come. Gates and cases stand worst first; at most 200 cases and
    200 groups are sent (``cases_total``, ``groups_total``: how many there are)."""

    info: AuditInfo
    settings: dict[str, object]
    policy: str
    gates: list[GateInfo]
    figures: list[FigureInfo]
    cases: list[CaseInfo]
    cases_total: int
    groups: list[GroupInfo]
    groups_total: int
    refused: list[RefusedInfo]
    refused_total: int
    drift: list[DriftInfo]
    limits: list[str]
    files: list[AuditFile]


class AlternativeInfo(Response):
    """What could have stood there."""

    text: str
    logprob: float
    chosen: bool


class SampleResponse(Response):
    """A sample with its tokens: ``data`` base64 of all bytes, ``offsets`` T + 1 into them.

    ``alternatives``: by token index, at the tokens of findings. ``node``: the branch that it was
    opened as, if it was.
    """

    case: str
    sample: int
    seed: int | None
    language: str
    finish: str
    n_prompt: int
    parses: bool | None
    ids: list[int]
    offsets: list[int]
    data: str
    labels: dict[str, str]
    surprisal: list[float | None]
    entropy: list[float | None]
    findings: list[FindingResponse]
    masses: dict[str, MassInfo]
    alternatives: dict[str, list[AlternativeInfo]]
    notes: list[str]
    session: str | None
    node: str | None


class OpenedResponse(Response):
    """The branch that holds the sample. ``run``: the job that measures it, null: it is there."""

    session: str
    node: str
    run: str | None


# --- the stream -------------------------------------------------------------------------------
AuditEvent = Annotated[ProgressEvent | DoneEvent | ErrorEvent, Field(discriminator="type")]


class AuditMessage(Response):
    """An event of an audit, as it travels: progress in cases, then its end."""

    run: str
    node: str
    kind: Literal["audit"]
    event: AuditEvent
