"""The wire of comparisons; rules as in ``wire``: no defaults, nulls always sent."""

from __future__ import annotations

from typing import Literal

from tokenscope.server.wire import Response, Summary


class ApartInfo(Response):
    """How far two distributions lie apart: ``kl`` nats, a lower bound unless ``exact``, null where
    it is not known or not finite; the total variation lies in ``tv_low..tv_high``. ``over``:
    tokens, or the next byte (two vocabularies)."""

    kl: float | None
    tv_low: float
    tv_high: float
    exact: bool
    over: Literal["tokens", "bytes"]


class ApartMeans(Response):
    """Means over the ``n`` places where both stand at the same text; ``tv_most``: the largest
    ``tv_low``."""

    n: int
    exact: bool
    kl: float | None
    tv_low: float | None
    tv_high: float | None
    tv_most: float | None


class ComparedCell(Response):
    """Tokens ``a`` = [start, end) of one side and ``b`` of the other, one of which may be empty;
    ``same``: they hold the same bytes. ``apart``: of the distributions that predicted the first
    token of each, null where the texts before are not the same. ``values_a``, ``values_b``: in the
    order of ``columns``, additive ones summed over the cell, others averaged."""

    a: list[int]
    b: list[int]
    same: bool
    text_a: str
    text_b: str
    apart: ApartInfo | None
    values_a: list[float | None]
    values_b: list[float | None]


class ComparedPlace(Response):
    """Where the texts part: the token of each side, and the byte."""

    a: int
    b: int
    byte: int


class ComparedMeeting(Response):
    """A stretch after the fork in which both say the same: [start, end) of the tokens of each."""

    a: list[int]
    b: list[int]
    bytes: int


class SideSums(Response):
    """Summed logprob (nats) of each side."""

    a: float
    b: float


class JointLogprob(Response):
    """Of the tokens that differ, of all from the fork on, and of all."""

    differs: SideSums
    after: SideSums
    all: SideSums


class StatementInfo(Response):
    """A statement by its first line. ``line``: from 1 on."""

    kind: str
    text: str
    line: int


class StatementChange(Response):
    """A statement that differs, or stands on one side only."""

    change: Literal["changed", "only_a", "only_b"]
    a: StatementInfo | None
    b: StatementInfo | None


class RolledSide(Response):
    """A region's bytes [start, end), its tokens' count and figures of the column."""

    start: int
    end: int
    count: int
    mean: float | None
    sum: float | None
    max: float | None


class RolledPair(Response):
    """A region of either side, matched where it holds the same stretch of text, or is the only one
    of its kind and name on both."""

    kind: str
    name: str
    a: RolledSide | None
    b: RolledSide | None


class ComparedRollup(Response):
    """A column over the regions of both sides."""

    column: str
    rows: list[RolledPair]


class CompareResponse(Response):
    """Two branches side by side. ``node_a``, ``node_b``: their names; ``fork``: null where they
    say the same. ``at_fork``: how far the distributions lie apart there (two branches of one
    model: one distribution); ``after_fork``: after the first tokens that differ. ``rollups``:
    empty unless a level was asked for."""

    node_a: str
    node_b: str
    model_a: str
    model_b: str
    same_text: bool
    same_shape: bool
    same_tokenizer: bool
    exact: bool
    fork: ComparedPlace | None
    at_fork: ApartInfo | None
    after_fork: ApartInfo | None
    meets: list[ComparedMeeting]
    joint_logprob: JointLogprob
    mean_apart: ApartMeans
    columns: list[str]
    cells: list[ComparedCell]
    syntax: list[StatementChange]
    rollups: list[ComparedRollup]
    summary_a: Summary
    summary_b: Summary
