"""The wire of findings."""

from __future__ import annotations

from typing import Literal

from tokenscope.server.wire import Response

GradeName = Literal["low", "medium", "high"]


class FindingResponse(Response):
    """What a check detected at the bytes ``start..end``; ``tokens``: half-open, null where the
    text has none there. ``cwe`` 0: none fits."""

    rule: str
    message: str
    source: str
    cwe: int
    severity: GradeName
    confidence: GradeName
    start: int
    end: int
    tokens: list[int] | None


class FindingsResponse(Response):
    """Findings in order of their bytes. ``notes``: what a check could not do, or did first."""

    language: str
    complete: bool
    findings: list[FindingResponse]
    notes: list[str]
    checks: list[str]


class LineLikelihood(Response):
    """``line`` from 1."""

    line: int
    probability: float


class ReliabilityBin(Response):
    """Of ``n`` held-out lines: the mean of what was ``said``, the share that ``came``."""

    said: float
    came: float
    n: int


class RivalInfo(Response):
    """Another way to rank the same lines. ``gain``: AUROC of what was learnt less its own, with
    the ends of the 95 % interval over files."""

    name: str
    auroc: float
    ap: float
    gain: float
    low: float
    high: float


class LikelihoodQuality(Response):
    """How good it is on files that were held out; ``verdict``: the same as a sentence."""

    better: bool
    verdict: str
    auroc: float
    ap: float
    ece: float
    rows: int
    positives: int
    files: int
    bins: list[ReliabilityBin]
    rivals: list[RivalInfo]
    made_of: dict[str, object]


class LikelihoodResponse(Response):
    """The probability that a human would change a line: ``values`` by token (null: nothing in the
    line could be changed), ``lines`` most likely first. The column is an estimate."""

    values: list[float | None]
    lines: list[LineLikelihood]
    quality: LikelihoodQuality


class DecisionPoint(Response):
    """A token after which the risk is surely higher than before it; ``banned``: what banning it
    there would leave (null: not enumerated), for ``ban_cost`` nats (null: no finite number)."""

    token: int
    text: str
    before: list[float]
    after: list[float]
    banned: list[float] | None
    ban_cost: float | None


class SafeWay(Response):
    """The likeliest continuation from byte ``start`` on without the finding, and its mass."""

    start: int
    text: str
    mass: float


class RiskResponse(Response):
    """The probability of continuations with the finding from token ``at`` on, in ``lower..upper``,
    under the model's own distribution. ``price``: nats of the safe way (null: there is none)."""

    rule: str
    at: int
    lower: float
    upper: float
    method: str
    paths: int
    draws: int
    unexplored: float
    price: float | None
    cost: list[float | None]
    decisions: list[DecisionPoint]
    safe: SafeWay | None
    said: str
