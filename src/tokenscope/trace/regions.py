"""Regions: the syntax tree of a text as a struct of arrays. numpy only.

Regions stand in pre-order (a parent before its children, siblings by position), so a subtree is a
slice and the starts never decrease. All positions are byte offsets into the text of the tokens.
Region 0 is the whole file and covers every byte, whatever the grammar made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError, UnknownName

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

# What a region can be, as bits: a function definition is a statement and a function at once.
LEVEL_BITS: Mapping[str, int] = {
    "expression": 1, "statement": 2, "block": 4, "function": 8, "class": 16, "file": 32,
}  # fmt: skip

# Everything that can be rolled up. ``kind`` and ``category`` group leaves, ``line`` needs no tree.
LEVELS: tuple[str, ...] = (
    "kind", "category", "expression", "statement", "line", "block", "function", "class", "file",
)  # fmt: skip

# ``string``, ``number`` and ``constant`` are the literals; ``text`` is prose between tags or
# fences; ``other`` is what no table entry names.
CATEGORIES: tuple[str, ...] = (
    "other", "keyword", "identifier", "type", "string", "number", "constant", "operator",
    "punctuation", "comment", "text", "error", "whitespace", "indentation",
)  # fmt: skip
CATEGORY_CODE: Mapping[str, int] = {name: code for code, name in enumerate(CATEGORIES)}


def level_bit(level: str) -> int:
    """The bit of a level that is made of tree nodes. Raises UnknownName."""
    try:
        return LEVEL_BITS[level]
    except KeyError:
        raise UnknownName("level", level, LEVEL_BITS) from None


@dataclass(frozen=True, slots=True)
class Region:
    """One region, as a value. ``start`` and ``end`` are byte offsets; ``parent`` is -1 at 0."""

    index: int
    kind: str
    levels: tuple[str, ...]
    category: str
    start: int
    end: int
    parent: int
    depth: int
    name: str | None
    error: bool
    missing: bool

    @property
    def label(self) -> str:
        """What a breadcrumb shows: the kind, and the name where there is one."""
        return f"{self.kind} {self.name}" if self.name else self.kind


@dataclass(frozen=True, eq=False)
class Regions:
    """R regions in pre-order; R >= 1.

    ``kind`` int32 (R,) into ``kinds``; ``level`` uint8 (R,) bits of LEVEL_BITS; ``category``
    uint8 (R,) into CATEGORIES; ``start``, ``end`` int64 (R,) bytes; ``parent``, ``depth`` int32
    (R,); ``error``, ``missing`` bool (R,); ``names`` region -> identifier of a definition.
    A missing region was put in by the parser's error recovery and has no bytes.
    """

    language: str
    kinds: tuple[str, ...]
    kind: I32
    level: U8
    category: U8
    start: I64
    end: I64
    parent: I32
    depth: I32
    error: Bool
    missing: Bool
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.kind)
        if n == 0 or int(self.start[0]) != 0 or int(self.parent[0]) != -1:
            raise InputError("regions", "region 0 must be the file and start at byte 0")
        for name in ("level", "category", "start", "end", "parent", "depth", "error", "missing"):
            if len(getattr(self, name)) != n:
                raise InputError("regions", f"{name} must have {n} entries")
        for name in ("kind", "level", "category", "start", "end", "parent", "depth"):
            getattr(self, name).flags.writeable = False

    @classmethod
    def file_only(
        cls, size: int, language: str = "", kind: str = "file", error: bool = False
    ) -> Regions:
        """A single region over ``size`` bytes: text in no known language, or not parsed."""
        one = lambda value, dtype: np.asarray([value], dtype=dtype)
        return cls(
            language, (kind,), one(0, np.int32), one(LEVEL_BITS["file"], np.uint8),
            one(CATEGORY_CODE["text"], np.uint8), one(0, np.int64), one(size, np.int64),
            one(-1, np.int32), one(0, np.int32), one(error, np.bool_), one(False, np.bool_),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: int) -> Region:
        n = len(self)
        i = index + n if index < 0 else index
        if not 0 <= i < n:
            raise IndexError(f"region {index} of {n}")
        bits = int(self.level[i])
        return Region(
            i, self.kinds[self.kind[i]],
            tuple(name for name, bit in LEVEL_BITS.items() if bits & bit),
            CATEGORIES[self.category[i]], int(self.start[i]), int(self.end[i]),
            int(self.parent[i]), int(self.depth[i]), self.names.get(i), bool(self.error[i]),
            bool(self.missing[i]),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Region]:
        return (self[i] for i in range(len(self)))

    @property
    def size(self) -> int:
        """Number of bytes of the text."""
        return int(self.end[0])

    @cached_property
    def leaf(self) -> Bool:
        """bool (R,): regions without children."""
        leaf = np.ones(len(self), dtype=np.bool_)
        leaf[self.parent[1:]] = False
        return leaf

    def innermost(self, at: I64) -> I32:
        """int32: for every byte offset, the deepest region that covers it. Linear in the depth."""
        found = np.searchsorted(self.start, at, side="right").astype(np.int32) - 1
        open_ = np.flatnonzero(self.end[found] <= at)
        while open_.size:  # climb only where the last region to start has already ended
            found[open_] = self.parent[found[open_]]
            open_ = open_[(self.end[found[open_]] <= at[open_]) & (found[open_] > 0)]
        return found

    def at(self, byte: int) -> Region:
        """The deepest region that covers ``byte``. Raises InputError outside the text."""
        if not 0 <= byte < max(self.size, 1):
            raise InputError("byte", f"must lie in 0..{self.size - 1}")
        return self[int(self.innermost(np.asarray([byte], dtype=np.int64))[0])]

    def path(self, byte: int) -> list[Region]:
        """The breadcrumb: from the file down to the deepest region that covers ``byte``."""
        region = self.at(byte)
        path = [region]
        while region.parent >= 0:
            region = self[region.parent]
            path.append(region)
        return path[::-1]

    def of(self, level: str) -> I64:
        """int64: indices of the regions of a level, in pre-order. Raises UnknownName."""
        return np.flatnonzero(self.level & level_bit(level)).astype(np.int64)

    def nearest(self, level: str) -> I32:
        """int32 (R,): for each region, the nearest of itself and its ancestors that is of
        ``level``; -1 where there is none. Pointer doubling: O(R log depth)."""
        has = (self.level & level_bit(level)) > 0
        # one slot more, so that "no parent" points at itself
        jump = np.append(np.where(has, np.arange(len(self)), self.parent), -1).astype(np.int32)
        while True:
            further = jump[jump]
            if np.array_equal(further, jump):
                return jump[:-1]
            jump = further
