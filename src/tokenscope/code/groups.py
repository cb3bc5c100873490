"""What a roll-up adds up over: groups of cells, as ranges of one (perhaps reordered) row of cells.

Regions of a level and lines are ranges of the cells as they stand, and nested regions are nested
ranges. Kinds and categories are scattered over the text, so their cells are first sorted together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokenscope.code.align import Alignment
from tokenscope.errors import InputError, UnknownName
from tokenscope.trace.regions import CATEGORIES, I64, LEVEL_BITS, LEVELS

Group = Literal["region", "kind"]


@dataclass(frozen=True, eq=False)
class Groups:
    """G groups. ``order`` int64 (M',) cells; group ``g`` has ``order[low[g]:high[g]]``.

    ``region`` int64 (G,): the region of each group, -1 where it is no single one. ``start`` and
    ``end`` int64 (G,) bytes, from the first to past the last byte of the group.
    """

    order: I64
    low: I64
    high: I64
    kind: tuple[str, ...]
    name: tuple[str, ...]
    region: I64
    start: I64
    end: I64

    def __len__(self) -> int:
        return len(self.low)


def groups(alignment: Alignment, by: str, group: Group = "region") -> Groups:
    """The groups of a level. ``group="kind"`` puts all regions of one kind together, each cell
    with the innermost region of the level that covers it. Raises UnknownName, InputError."""
    if by not in LEVELS:
        raise UnknownName("by", by, LEVELS)
    if group not in ("region", "kind"):
        raise InputError("group", "must be 'region' or 'kind'")
    if by == "line":
        return _lines(alignment)
    regions = alignment.regions
    if by == "category":
        return _scattered(alignment, alignment.category, CATEGORIES)
    if by == "kind":
        return _scattered(alignment, *_leaf_kinds(alignment))
    if group == "kind":
        inner = innermost(alignment, by)
        return _scattered(alignment, np.where(inner < 0, -1, regions.kind[inner]), regions.kinds)
    chosen = regions.of(by)
    low, high = alignment.span(chosen)
    names = [regions.names.get(i, "") for i in chosen.tolist()]
    kinds = [regions.kinds[k] for k in regions.kind[chosen].tolist()]
    return Groups(
        np.arange(len(alignment), dtype=np.int64), low, high, tuple(kinds), tuple(names),
        chosen, regions.start[chosen], regions.end[chosen],
    )  # fmt: skip


def innermost(alignment: Alignment, by: str) -> I64:
    """int64 (M,): the innermost region of the level that covers each cell, -1 = outside."""
    if by not in LEVEL_BITS:
        raise UnknownName("by", by, LEVEL_BITS)
    return alignment.regions.nearest(by)[alignment.region].astype(np.int64)


def _leaf_kinds(alignment: Alignment) -> tuple[I64, tuple[str, ...]]:
    """The node kind of each cell, with layout as kinds of its own."""
    regions = alignment.regions
    table = (*regions.kinds, "(whitespace)", "(indentation)")
    code = regions.kind[alignment.region].astype(np.int64)
    for offset, category in enumerate(("whitespace", "indentation")):
        is_layout = alignment.category == CATEGORIES.index(category)
        code[is_layout] = len(regions.kinds) + offset
    return code, table


def _lines(alignment: Alignment) -> Groups:
    last = int(alignment.line[-1]) if len(alignment) else -1
    number = np.arange(last + 1)
    low = np.searchsorted(alignment.line, number)
    high = np.searchsorted(alignment.line, number, side="right")
    return Groups(
        np.arange(len(alignment), dtype=np.int64), low, high, ("line",) * len(number),
        tuple(str(n + 1) for n in number.tolist()), np.full(len(number), -1, dtype=np.int64),
        alignment.start[low], alignment.start[high],
    )  # fmt: skip


def _scattered(alignment: Alignment, code: np.ndarray, table: tuple[str, ...]) -> Groups:
    order = np.argsort(code, kind="stable")
    order = order[np.searchsorted(code[order], 0) :]  # what lies outside (-1) is in no group
    present, low = np.unique(code[order], return_index=True)
    high = np.append(low[1:], len(order)).astype(np.int64)
    start = alignment.start[order[low]] if len(low) else low
    end = alignment.start[order[high - 1] + 1] if len(low) else low
    kinds = tuple(table[c] for c in present.tolist())
    none = np.full(len(low), -1, dtype=np.int64)
    return Groups(order, low.astype(np.int64), high, kinds, ("",) * len(low), none, start, end)
