"""Two token sequences beside each other: by bytes, so that tokenizers may differ.

The texts are compared word by word (longest matching blocks; Ratcliff & Metzener 1988). Wherever
a boundary between tokens lies at the same place of the same text on both sides, both sequences are
cut: the pieces between two cuts are *cells*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from tokenscope.trace.tokens import Tokens

WORD = re.compile(rb"\w+|[^\S\n]+|\n|[^\w\s]", re.ASCII)
MOST_WORDS = 20_000  # of what differs, on one side; more stands as one piece


@dataclass(frozen=True, slots=True)
class Cell:
    """Tokens ``a[0]..a[1]-1`` on one side and ``b[0]..b[1]-1`` on the other; one may be empty.
    ``same``: they hold the same bytes."""

    a: tuple[int, int]
    b: tuple[int, int]
    same: bool

    @property
    def paired(self) -> bool:
        """One token on each side, of the same bytes."""
        return self.same and self.a[1] - self.a[0] == 1 == self.b[1] - self.b[0]


@dataclass(frozen=True, slots=True)
class Equal:
    """Bytes ``a..a+size-1`` of one text that are bytes ``b..b+size-1`` of the other."""

    a: int
    b: int
    size: int


def aligned(a: Tokens, b: Tokens) -> list[Cell]:
    """Cells in the order of both texts; together they hold all tokens of both."""
    anchors = [(0, 0, -1)]  # (token of a, token of b, the equal stretch that ends or begins here)
    for number, stretch in enumerate(equal_stretches(a.data, b.data)):
        inside = _boundaries(a, stretch.a, stretch.size) & _boundaries(b, stretch.b, stretch.size)
        for offset in sorted(inside):
            anchors.append(
                (_first(a, stretch.a + offset), _first(b, stretch.b + offset), number)
            )  # fmt: skip
    cells: list[Cell] = []
    last = (0, 0, -1)
    for anchor in anchors[1:]:
        _cell(cells, last, anchor)
        last = anchor
    # marks at the very end (no bytes) belong to what stands before them
    _cell(cells, last, (len(a), len(b), -1))
    return cells


def _cell(cells: list[Cell], one: tuple[int, int, int], two: tuple[int, int, int]) -> None:
    if one[:2] == two[:2]:
        return
    same = one[2] == two[2] >= 0
    cells.append(Cell((one[0], two[0]), (one[1], two[1]), same))


def _first(tokens: Tokens, byte: int) -> int:
    return int(np.searchsorted(tokens.offsets, byte, side="left"))


def _boundaries(tokens: Tokens, start: int, size: int) -> set[int]:
    offsets = tokens.offsets
    low, high = np.searchsorted(offsets, [start, start + size + 1])
    return {int(o) - start for o in offsets[low:high]}


def equal_stretches(a: bytes, b: bytes) -> list[Equal]:
    """Stretches of bytes that both texts hold, in order."""
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    found = [Equal(0, 0, start)] if start else []
    found += _between(a[start : len(a) - end], b[start : len(b) - end], start)
    if end:
        found.append(Equal(len(a) - end, len(b) - end, end))
    return list(_joined(found))


def _between(a: bytes, b: bytes, shift: int) -> Iterator[Equal]:
    one, two = WORD.findall(a), WORD.findall(b)
    if max(len(one), len(two)) > MOST_WORDS:
        return
    places = [np.cumsum([0, *map(len, words)]).tolist() for words in (one, two)]
    matcher = SequenceMatcher(None, one, two, autojunk=False)
    for match in matcher.get_matching_blocks():
        if match.size:
            low, high = places[0][match.a], places[0][match.a + match.size]
            yield Equal(shift + low, shift + places[1][match.b], high - low)


def _joined(found: Sequence[Equal]) -> Iterator[Equal]:
    held: Equal | None = None
    for e in found:
        if held is not None and (held.a + held.size, held.b + held.size) == (e.a, e.b):
            held = Equal(held.a, held.b, held.size + e.size)
            continue
        if held is not None:
            yield held
        held = e
    if held is not None:
        yield held


def _common(a: bytes, b: bytes) -> int:
    n = min(len(a), len(b))
    one, two = np.frombuffer(a, np.uint8, n), np.frombuffer(b, np.uint8, n)
    unequal = np.nonzero(one != two)[0]
    return int(unequal[0]) if len(unequal) else n
