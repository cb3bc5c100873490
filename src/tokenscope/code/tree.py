"""One syntax tree with tree-sitter, and its nodes as flat columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tree_sitter import Parser, Tree

from tokenscope.code.language import Language
from tokenscope.code.names import borrow_names, name_of
from tokenscope.trace.regions import CATEGORY_CODE, LEVEL_BITS, Regions

PARSE_S = 5.0  # seconds that one parse may take
_CHUNK = 1 << 16  # bytes that the parser is handed at once
ERROR_SYMBOL = 65535  # tree-sitter's own number for an error node, in every grammar
_ATOM = np.zeros(len(CATEGORY_CODE), dtype=np.bool_)
_ATOM[[CATEGORY_CODE[c] for c in ("identifier", "string", "number", "constant")]] = True


@dataclass
class Flat:
    """A growing pre-order list of nodes; plain lists, because appending is what happens to it.

    ``symbol`` numbers kinds in the grammar (the last number is ERROR). Indices and bytes are
    relative to the tree, so that the trees of several fences can be put under one file.
    """

    symbol: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` nodes."""
        for column in (self.symbol, self.start, self.end, self.parent, self.depth):
            del column[size:]
        self.missing = [i for i in self.missing if i < size]
        self.names = {i: n for i, n in self.names.items() if i < size}

    def extend(
        self, tree: Tree, language: Language, at: int = 0, budget_s: float = PARSE_S
    ) -> bool:
        """Append the nodes from pre-order index ``at`` on; the ones before it must be here.

        False when that took longer than ``budget_s`` (then it is not complete). One cursor step
        and five appends a node: 0.5 us, 90 ms for the 190,000 nodes of 1 MB of Python. Recursion
        would overflow on deep nesting; the cursor does not.
        """
        symbol, start, end = self.symbol, self.start, self.end
        parents, depths = self.parent, self.depth
        error, definitions = len(language.kinds) - 1, language.definitions
        cursor = tree.walk()
        cursor.goto_descendant(at)
        depth = cursor.depth
        parent = -1
        if at:  # the last node above: the parent is the nearest kept node one level up
            parent = at - 1
            while depths[parent] >= depth:
                parent = parents[parent]
        first, following, up = cursor.goto_first_child, cursor.goto_next_sibling, cursor.goto_parent
        index, stop = at, monotonic() + budget_s
        while True:
            node = cursor.node
            assert node is not None
            kind, lo, hi = node.kind_id, node.start_byte, node.end_byte
            symbol.append(error if kind == ERROR_SYMBOL else kind)
            start.append(lo)
            end.append(hi)
            parents.append(parent)
            depths.append(depth)
            if lo == hi and node.is_missing:
                self.missing.append(index)
            if kind in definitions:
                name = name_of(node)
                if name:
                    self.names[index] = name
            index += 1
            if not index & 4095 and monotonic() > stop:
                return False
            if first():
                parent, depth = index - 1, depth + 1
                continue
            while not following():
                if not up():
                    return True
                parent, depth = parents[parent], depth - 1

    def leaf(self) -> NDArray[np.bool_]:
        """bool: nodes without children; in pre-order, those whose successor is not deeper."""
        depth = np.asarray(self.depth, dtype=np.int32)
        return np.append(np.diff(depth) <= 0, True)

    def regions(self, language: Language, data: bytes) -> Regions:
        """The nodes as Regions over ``data``, with the file as region 0."""
        size = len(data)
        symbol = np.asarray(self.symbol, dtype=np.int64)
        used, codes = np.unique(symbol, return_inverse=True)
        table: dict[str, int] = {}
        to_kind = np.asarray(
            [table.setdefault(language.kinds[s], len(table)) for s in used.tolist()], dtype=np.int32
        )
        level = language.levels[symbol]
        _free_atoms(level, language.categories[symbol], np.asarray(self.parent), self.leaf())
        level[0] = LEVEL_BITS["file"]  # also when error recovery left no proper root
        start = np.asarray(self.start, dtype=np.int64)
        end = np.asarray(self.end, dtype=np.int64)
        start[0], end[0] = 0, size
        missing = np.zeros(len(symbol), dtype=np.bool_)
        missing[self.missing] = True
        regions = Regions(
            language.name, tuple(table), to_kind[codes], level, language.categories[symbol],
            start, end, np.asarray(self.parent, dtype=np.int32),
            np.asarray(self.depth, dtype=np.int32), symbol == len(language.kinds) - 1, missing,
            dict(self.names),
        )  # fmt: skip
        borrow_names(regions, data)
        return regions


def _free_atoms(
    level: NDArray[np.uint8], category: NDArray[np.uint8], parent: NDArray[np.int64],
    leaf: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Mark as expressions the names and literals that are a whole one: ``x`` in ``return x``.

    Inside a larger expression they are its tokens, and in a definition's head they are its name.
    """
    above = level[parent]  # the root's -1 reads the last node; the root is set by the caller
    free = (above & LEVEL_BITS["statement"]) > 0
    free &= (above & (LEVEL_BITS["function"] | LEVEL_BITS["class"])) == 0
    level[leaf & free & _ATOM[category]] |= LEVEL_BITS["expression"]


def tree_of(
    data: bytes, language: Language, old: Tree | None = None, budget_s: float = PARSE_S
) -> Tree | None:
    """The syntax tree of ``data``; ``old`` is an edited tree of its prefix. None when it takes
    longer than ``budget_s``: a megabyte of quotes costs the JavaScript grammar 20 s, a megabyte
    of real code 0.3 s."""
    # scanners written in C take NUL for the end of the file; 16 kB of it cost the Bash one 10 s
    data = data.replace(b"\0", b"\1")
    stop = monotonic() + budget_s
    read = lambda byte, _: data[byte : byte + _CHUNK]
    options: dict[str, Any] = {"progress_callback": lambda *_: monotonic() > stop}
    if old is not None:
        options["old_tree"] = old
    try:
        return Parser(language.grammar).parse(read, **options)
    except ValueError:  # what the binding raises when the callback says stop
        return None
