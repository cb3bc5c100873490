"""The wire of drift: one text under two models; rules as in ``wire``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenscope.server.compare_wire import ApartInfo, ApartMeans
from tokenscope.server.wire import ModelId, Request, Response


class ReadRequest(Request):
    """Whose turn it is to read a branch that another model wrote."""

    model: ModelId
    alternatives: Annotated[int, Field(ge=0, le=100)] = 10


class ReadInfo(Response):
    """``node``: the branch that holds the same text as that model reads it; ``run``: the job that
    writes it, null where it was read before."""

    node: str
    run: str | None


class FlipInfo(Response):
    """Before token ``t`` of the first branch (at ``byte``) the likeliest token of one model is not
    the other's: their texts, base64 of their bytes or the literals of special tokens, and their
    probabilities; ``category``: the kind of syntax of what stands there."""

    t: int
    byte: int
    category: str
    a: str
    b: str
    p_a: float
    p_b: float


class MovedColumn(Response):
    """Means over the cells of a kind: of both sides, of the difference (second less first), and of
    its absolute value; nats for surprisal and entropy."""

    column: str
    a: float | None
    b: float | None
    difference: float | None
    moved: float | None


class MovedCategory(Response):
    """One kind of syntax: ``cells`` of it, the columns asked for, mean KL in nats (a lower bound
    unless the answer is exact), and at how many of the ``places`` where both choices are known
    they flip."""

    category: str
    cells: int
    columns: list[MovedColumn]
    kl: float | None
    flips: int
    places: int


class DriftCell(Response):
    """Tokens ``a`` = [start, end) of one side beside ``b`` of the other, of the same bytes unless
    one is empty. ``flip``: null where a choice is not known; ``apart``: as in CompareResponse."""

    a: list[int]
    b: list[int]
    category: str
    flip: bool | None
    apart: ApartInfo | None


class DriftResponse(Response):
    """``cells``: both beside each other, in order. ``differences``: per column asked for, a number
    per token of the first branch (second less first; null where there is none); ``kl``: nats per
    token where known. ``places``: positions at which both choices are known; ``flipped``: the share
    at which they differ. Categories: most moved first. ``mean_apart``: over the places where
    distributions could be held beside each other; ``over``: of what they are (the next byte, with
    two vocabularies), null without any."""

    same_tokenizer: bool
    exact: bool
    places: int
    flipped: float | None
    kl_mean: float | None
    flips: list[FlipInfo]
    categories: list[MovedCategory]
    columns: list[str]
    differences: list[list[float | None]]
    kl: list[float | None]
    cells: list[DriftCell]
    mean_apart: ApartMeans
    over: Literal["tokens", "bytes"] | None
