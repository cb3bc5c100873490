"""The wire of structure; rules as in ``wire``. Offsets are bytes."""

from __future__ import annotations

from typing import Literal

from tokenscope.server.wire import Response

VerdictName = Literal["viable", "not", "unknown"]


class LanguageChoice(Response):
    """A language that a text can be read as."""

    name: str
    title: str


class StructureInfo(Response):
    """What can be asked: languages, levels, categories, and the names of the levels' bits."""

    languages: list[LanguageChoice]
    levels: list[str]
    level_bits: dict[str, int]
    categories: list[str]
    aggregates: list[str]


class StructureResponse(Response):
    """The regions of a branch in pre-order (a parent before its children), one list per field.

    ``level``: bits of StructureInfo; ``kind`` into ``kinds``; ``category`` into the categories;
    ``error`` and ``missing`` list regions; ``names`` maps a region to its identifier. ``tokens``:
    how many tokens this covers (a running branch has more by now). ``cell_*``: what lies between
    two cuts of the text belongs to one token, deepest region and category; ``cell_start`` has one
    entry more. ``cost_ms``: what it took; a page that polls should wait 50 times that.
    """

    language: str
    tokens: int
    kinds: list[str]
    kind: list[int]
    level: list[int]
    category: list[int]
    start: list[int]
    end: list[int]
    parent: list[int]
    error: list[int]
    missing: list[int]
    names: dict[int, str]
    cell_start: list[int]
    cell_token: list[int]
    cell_region: list[int]
    cell_category: list[int]
    cost_ms: float


class RollupResponse(Response):
    """A column over the groups of a level, one list per field; null where no token entered.

    ``region``: -1 where a group is no single region; ``count``: tokens that entered; ``generated``
    and ``prompt``: tokens of each part that overlap; ``undefined``: tokens with no value.
    """

    column: str
    by: str
    part: Literal["generated", "prompt", "all"]
    group: Literal["region", "kind"]
    region: list[int]
    kind: list[str]
    name: list[str]
    start: list[int]
    end: list[int]
    bytes: list[int]
    count: list[int]
    generated: list[int]
    prompt: list[int]
    undefined: list[int]
    mean: list[float | None]
    std: list[float | None]
    min: list[float | None]
    max: list[float | None]
    sum: list[float | None]
    top: list[float | None]
    quartiles: list[list[float | None]]


class NodeMatrixResponse(Response):
    """Which node looked at which. ``values``: rows look at columns; the last of each is outside;
    null for rows without a recorded row. ``sink`` and ``unrecorded``: mass left out per row."""

    by: str
    normalise: Literal["mass", "row", "density"]
    source: str
    region: list[int]
    label: list[str]
    start: list[int]
    end: list[int]
    queries: list[float]
    keys: list[float]
    sink: list[float | None]
    unrecorded: list[float | None]
    values: list[list[float | None]]


class ViabilityRow(Response):
    """The verdicts on the alternatives of one token, most likely first."""

    t: int
    language: str
    verdicts: list[VerdictName]


class ViabilityResponse(Response):
    """Verdicts from token ``first`` on, and the two columns over all tokens (null: not judged)."""

    language: str
    first: int
    verdicts: list[list[VerdictName]]
    viable_mass: list[float | None]
    viable_entropy: list[float | None]
