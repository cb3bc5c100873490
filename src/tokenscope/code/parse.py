"""Text to regions. Never fails: broken code gives error and missing regions.

Of Markdown only what stands in fences is code, each fence in its own language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenscope.code.aliases import language_of_fence
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.tree import Flat, tree_of
from tokenscope.trace.regions import CATEGORY_CODE, LEVEL_BITS, Regions

_FENCE = re.compile(rb"^( {0,3})(`{3,}|~{3,})([^\n]*)\n?", re.MULTILINE)


def parse(data: bytes, language: str) -> Regions:
    """Regions of ``data``. ``language`` is a name of the table, "markdown" (only fences are code)
    or "text" (one region). What cannot be parsed in time is one region ``unparsed``. Raises
    UnknownName, and MissingError without the grammar's wheel."""
    if language == "text":
        return Regions.file_only(len(data), "text")
    if language == "markdown":
        return parse_markdown(data)
    entry = LANGUAGES.get(language)
    tree = tree_of(data, entry)
    flat = Flat()
    if tree is None or not flat.extend(tree, entry):
        return Regions.file_only(len(data), language, "unparsed", error=True)
    return flat.regions(entry, data)


@dataclass(frozen=True, slots=True)
class Fence:
    """Code between two fence lines: bytes ``start..end`` of the text; ``info`` names it."""

    start: int
    end: int
    info: str
    closed: bool


def fences(data: bytes) -> list[Fence]:
    """The fenced blocks (CommonMark 4.5); one that is never closed runs to the end."""
    found: list[Fence] = []
    at = 0
    while True:
        opening = _FENCE.search(data, at)
        if opening is None:
            return found
        mark, info = opening.group(2), opening.group(3)
        at = opening.end()
        if mark[:1] == b"`" and b"`" in info:
            continue  # inline code, not a fence
        closing = re.compile(
            rb"^ {0,3}" + re.escape(mark[:1]) + rb"{%d,}[ \t]*\r?$" % len(mark), re.MULTILINE
        ).search(data, at)
        end = closing.start() if closing else len(data)
        found.append(Fence(at, end, info.decode("utf-8", "replace").strip(), closing is not None))
        at = closing.end() if closing else len(data)


def parse_markdown(data: bytes) -> Regions:
    """Region 0 is the document; below it a ``fence`` per block, and in it the block's own tree."""
    parts = []
    for fence in fences(data):
        code = data[fence.start : fence.end]
        parts.append((fence, parse(code, language_of_fence(fence.info) or "text")))
    return under_one_file(len(data), parts)


def under_one_file(size: int, parts: list[tuple[Fence, Regions]]) -> Regions:
    """The trees of the fences as one tree over ``size`` bytes."""
    table: dict[str, int] = {"markdown": 0, "fence": 1}
    cols: dict[str, list[np.ndarray]] = {
        name: [np.asarray([first])]
        for name, first in (
            ("kind", 0), ("level", LEVEL_BITS["file"]), ("category", CATEGORY_CODE["text"]),
            ("start", 0), ("end", size), ("parent", -1), ("depth", 0), ("error", False),
            ("missing", False),
        )
    }  # fmt: skip
    names: dict[int, str] = {}
    at = 1
    for fence, tree in parts:
        # the fence itself takes the place of the tree's own file region
        kinds = np.asarray([table.setdefault(k, len(table)) for k in tree.kinds])[tree.kind]
        level, parent = tree.level.copy(), tree.parent + at
        kinds[0], parent[0] = table["fence"], 0
        level[0] = LEVEL_BITS["block"]
        for name, values in (
            ("kind", kinds), ("level", level), ("category", tree.category),
            ("start", tree.start + fence.start), ("end", tree.end + fence.start),
            ("parent", parent), ("depth", tree.depth + 1), ("error", tree.error),
            ("missing", tree.missing),
        ):  # fmt: skip
            cols[name].append(values)
        names |= {i + at: n for i, n in tree.names.items()}
        names[at] = tree.language
        at += len(tree)
    types = {"kind": np.int32, "level": np.uint8, "category": np.uint8, "start": np.int64,
             "end": np.int64, "parent": np.int32, "depth": np.int32, "error": np.bool_,
             "missing": np.bool_}  # fmt: skip
    joined: dict[str, Any] = {
        n: np.concatenate(parts).astype(types[n]) for n, parts in cols.items()
    }
    return Regions("markdown", tuple(table), **joined, names=names)
