"""The wire of drift: one text under two models; rules as in ``wire``."""

from __future__ import annotations

from tokenscope.server.wire import Response


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


class DriftResponse(Response):
    """``differences``: per column asked for, a number per token of the first branch (second less
    first; null where there is none); ``kl``: nats per token where known. ``places``: positions at
    which both choices are known; ``flipped``: the share at which they differ. Categories: most
    moved first."""

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
