"""Names of functions and classes, wherever a grammar keeps them."""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np
from tree_sitter import Node

from tokenscope.trace.regions import CATEGORY_CODE, LEVEL_BITS, Regions

_LONGEST = 80  # characters of a name that a breadcrumb can show
# A function without a name of its own goes by what it is assigned to.
_HOLDERS = frozenset((
    "variable_declarator", "pair", "assignment", "assignment_expression", "field_definition",
    "public_field_definition", "init_declarator", "short_var_declaration", "let_declaration",
    "property_declaration", "keyword_argument",
))  # fmt: skip


def name_of(node: Node) -> str | None:
    """The identifier of a definition, or None for an anonymous one."""
    found = node.child_by_field_name("name")
    if found is None:
        found = _declared(node)
    if found is None:
        found = node.child_by_field_name("type")  # Rust: impl T
    if found is None or found.is_missing:
        return None
    return _clip(found.text or b"")


def _declared(node: Node) -> Node | None:
    """C and C++: follow the declarators down to the identifier."""
    found = node.child_by_field_name("declarator")
    while found is not None:
        deeper = found.child_by_field_name("declarator")
        if deeper is None:
            return None if found.type.startswith("abstract") else found
        found = deeper
    return None


def _clip(text: bytes) -> str | None:
    line = text[: 4 * _LONGEST].decode("utf-8", "replace").strip()
    return " ".join(line.split())[:_LONGEST] or None


def borrow_names(regions: Regions, data: bytes) -> None:
    """Name the definitions that have no name field: from what they are assigned to; tables of SQL
    and rules of CSS from their first identifier. Adds to ``regions.names`` while it is built."""
    names = regions.names
    assert isinstance(names, MutableMapping)
    wanted = np.flatnonzero(regions.level & (LEVEL_BITS["function"] | LEVEL_BITS["class"]))
    named = (CATEGORY_CODE["identifier"], CATEGORY_CODE["type"])
    for index in wanted.tolist():
        if index in names:
            continue
        parent = int(regions.parent[index])
        if parent >= 0 and regions.kinds[regions.kind[parent]] in _HOLDERS and parent + 1 != index:
            holder = parent + 1  # the first child of the holder is what is assigned to
        elif regions.kinds[regions.kind[index]].startswith(("create_", "rule_set")):
            below = range(index + 1, min(index + 9, len(regions)))
            inside = (
                i for i in below
                if regions.category[i] in named and regions.end[i] <= regions.end[index]
            )  # fmt: skip
            holder = next(inside, -1)
        else:
            continue
        if holder >= 0:
            name = _clip(data[int(regions.start[holder]) : int(regions.end[holder])])
            if name:
                names[index] = name
