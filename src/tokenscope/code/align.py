"""Tokens against regions, by bytes.

The text is cut at every boundary of a token, a tree node, a run of whitespace or a line. What lies
between two cuts is a *cell*: it belongs to exactly one token, one deepest region, one category and
one line, and its weight is its number of bytes. So a token that spans two regions belongs to each
in part, every byte is counted once, and any region is a contiguous range of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenscope.trace.regions import CATEGORY_CODE, I32, I64, U8, Bool, Regions

# Byte classes: 0 ink, 1 blank (space, tab, form feed ...), 2 end of line.
_CLASS = np.zeros(256, dtype=np.uint8)
_CLASS[[9, 11, 12, 32]] = 1
_CLASS[[10, 13]] = 2
# In these the blanks between children are content, not layout.
_TEXT = np.zeros(len(CATEGORY_CODE), dtype=np.bool_)
_TEXT[[CATEGORY_CODE[c] for c in ("string", "comment", "text")]] = True


class HasBytes(Protocol):
    """What alignment needs of tokens: all bytes, and int64 (T+1,) offsets into them."""

    @property
    def data(self) -> bytes: ...

    @property
    def offsets(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True, eq=False)
class Alignment:
    """M cells in byte order, M <= tokens + regions * 2 + lines * 2.

    ``start`` int64 (M+1,) byte bounds; ``token``, ``region`` int32 (M,); ``category`` uint8 (M,)
    into CATEGORIES (with ``whitespace`` and ``indentation``); ``line`` int32 (M,), from 0.
    ``offsets`` int64 (T+1,) are the tokens' own. A token without bytes has no cell.
    """

    regions: Regions
    offsets: I64
    start: I64
    token: I32
    region: I32
    category: U8
    line: I32

    def __len__(self) -> int:
        return len(self.token)

    @cached_property
    def weight(self) -> I64:
        """int64 (M,): bytes of each cell. They sum to the size of the text."""
        return np.diff(self.start)

    @cached_property
    def indptr(self) -> I64:
        """int64 (T+1,): token ``t`` has the cells ``indptr[t]..indptr[t+1]`` (the CSR rows)."""
        return np.searchsorted(self.start, self.offsets).astype(np.int64)

    def of(self, token: int) -> list[tuple[int, str, int]]:
        """(region, category, bytes) of every cell of one token."""
        from tokenscope.trace.regions import CATEGORIES

        cells = range(int(self.indptr[token]), int(self.indptr[token + 1]))
        return [
            (int(self.region[c]), CATEGORIES[self.category[c]], int(self.weight[c])) for c in cells
        ]

    def span(self, regions: NDArray[np.integer]) -> tuple[I64, I64]:
        """The range of cells of each region (all of them, nested ones included)."""
        low = np.searchsorted(self.start, self.regions.start[regions])
        high = np.searchsorted(self.start, self.regions.end[regions])
        return low.astype(np.int64), high.astype(np.int64)


def align(tokens: HasBytes, regions: Regions) -> Alignment:
    """The cells of ``tokens`` over ``regions``. Linear in bytes, tokens and regions together.

    ``regions`` may be of a shorter text (a stream's last parse): bytes past it belong to the file.
    """
    data = np.frombuffer(tokens.data, dtype=np.uint8)
    offsets = tokens.offsets
    size = len(data)
    if size == 0:
        none = np.zeros(0, dtype=np.int32)
        return Alignment(
            regions, offsets, np.zeros(1, dtype=np.int64), none, none,
            none.astype(np.uint8), none,
        )  # fmt: skip
    classes = _CLASS[data]
    new_line = np.flatnonzero(data == 10) + 1
    cut = np.zeros(size + 1, dtype=np.bool_)
    cut[0] = cut[size] = True
    cut[np.minimum(offsets, size)] = True
    cut[np.minimum(regions.start, size)] = True
    cut[np.minimum(regions.end, size)] = True
    cut[new_line] = True
    cut[1:size] |= classes[1:] != classes[:-1]
    inner = regions.leaf & (regions.category != 0)
    cut = _without_blanks_inside(cut, regions, inner, offsets, new_line, size)
    start = np.flatnonzero(cut).astype(np.int64)
    at = start[:-1]
    region = regions.innermost(at)
    region[at >= regions.size] = 0
    # of several tokens with one offset only the last has bytes
    token = (np.searchsorted(offsets, at, side="right") - 1).astype(np.int32)
    line = np.searchsorted(new_line, at, side="right").astype(np.int32)
    ink = np.append(np.flatnonzero(classes != 1), size)
    first = np.append(0, new_line)[line]  # where the line of each cell starts ...
    indent = at < ink[np.searchsorted(ink, first)]  # ... and whether no ink stands before it
    category = _categories(regions, region, classes[at], indent)
    return Alignment(regions, offsets, start, token, region, category, line)


def _without_blanks_inside(
    cut: Bool, regions: Regions, inner: Bool, offsets: I64, new_line: I64, size: int
) -> Bool:
    """Drop the cuts at blanks inside leaves: a string or a comment of ten words is one piece."""
    low, high = regions.start[inner], np.minimum(regions.end[inner], size)
    keep = high > low + 1
    covered = np.zeros(size + 1, dtype=np.int32)
    np.add.at(covered, np.minimum(low[keep] + 1, size), 1)
    np.add.at(covered, high[keep], -1)
    inside = np.cumsum(covered) > 0
    needed = np.zeros(size + 1, dtype=np.bool_)
    needed[np.minimum(offsets, size)] = True
    needed[new_line] = True
    return cut & (~inside | needed)


def _categories(regions: Regions, region: I32, classes: U8, indent: Bool) -> U8:
    """The region's category, except for layout: blanks that are no leaf's own content."""
    category = regions.category[region].copy()
    layout = (classes > 0) & ~_TEXT[category] & ~(regions.leaf[region] & (category != 0))
    category[layout] = CATEGORY_CODE["whitespace"]
    category[layout & indent & (classes == 1)] = CATEGORY_CODE["indentation"]
    return category
