"""The shape of code in any language of the table: its syntax tree without blanks and comments,
names that only a block can see numbered, and what a query captures in it.

A name is numbered when it is bound somewhere below a function or block: it stands in a field
``name``, ``left``, ``pattern``, ``declarator`` or ``parameter``, or directly in a parameter. It
keeps its text where it is a field, a type, or the name of something called. Operators, keywords
and literals stand as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node, Query, QueryCursor, QueryError

from tokenscope.code.language import Language
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.tree import tree_of
from tokenscope.errors import InputError
from tokenscope.trace.regions import CATEGORY_CODE, LEVEL_BITS

BINDING = frozenset({"name", "left", "pattern", "declarator", "parameter", "parameters"})
CALLED = frozenset({"function", "constructor", "macro", "method"})
INSIDE = LEVEL_BITS["function"] | LEVEL_BITS["block"]
MATCHES = 10_000


def shape(data: bytes, language: str) -> str:
    """Equal shapes: the same tree up to the above. Broken code has error nodes in its shape."""
    entry = LANGUAGES.get(language)
    tree = tree_of(data, entry)
    if tree is None:
        return data.decode("utf-8", "surrogateescape")
    leaves = list(_leaves(tree.root_node, entry))
    local = {text for text, role in leaves if role == "bound"}
    numbers: dict[str, str] = {}
    parts: list[str] = []
    for text, role in leaves:
        if role in ("bound", "name") and text in local:
            text = numbers.setdefault(text, f"\x1e{len(numbers) + 1}")
        parts.append(text)
    return "\x1f".join(parts)


def captured(data: bytes, language: str, pattern: str, start: int) -> list[str]:
    """The texts of the captures of ``pattern`` that begin at byte ``start`` or later."""
    if language not in LANGUAGES:
        raise InputError("outcome", "query: the language of the code is not known; say it")
    entry = LANGUAGES.get(language)
    try:
        query = Query(entry.grammar, pattern)
    except QueryError as error:
        raise InputError("outcome", f"query: {str(error)[:200]}") from None
    tree = tree_of(data, entry)
    if tree is None:
        return []
    found = QueryCursor(query, match_limit=MATCHES).captures(tree.root_node)
    nodes = {(n.start_byte, n.end_byte) for held in found.values() for n in held}
    return [
        " ".join(data[a:b].decode("utf-8", "replace").split())
        for a, b in sorted(nodes)
        if a >= start
    ]


def _leaves(root: Node, entry: Language) -> Iterator[tuple[str, str]]:
    """(text or mark, role) in the order of the text. Marks open and close named nodes."""
    comment, names = CATEGORY_CODE["comment"], CATEGORY_CODE["identifier"]
    stack: list[tuple[Node | None, bool, str, bool]] = [(root, False, "", False)]
    while stack:
        node, inside, field, called = stack.pop()
        if node is None:
            yield ")", "mark"
            continue
        symbol = min(node.kind_id, len(entry.kinds) - 1)
        if entry.categories[symbol] == comment:
            continue
        children = node.children
        if not children:
            text = (node.text or b"").decode("utf-8", "surrogateescape")
            if not text.strip():
                continue
            named = node.is_named and entry.categories[symbol] == names
            plain = named and node.type in ("identifier", "variable_name", "simple_identifier")
            if plain and not called:
                yield text, "bound" if inside and field in BINDING else "name"
            else:
                yield text, "text"
            continue
        yield f"({node.type}", "mark"
        stack.append((None, False, "", False))
        within = inside or bool(int(entry.levels[symbol]) & INSIDE)
        fields = [node.field_name_for_child(i) or "" for i in range(len(children))]
        parameter = "parameter" in node.type
        function = bool(int(entry.levels[symbol]) & LEVEL_BITS["function"])
        for child, name in reversed(list(zip(children, fields, strict=True))):
            own = name or ("parameter" if parameter else field if field in BINDING else "")
            # the name of a function itself is seen from outside; a callee is somebody else's
            defines = (name == "name" and function) or (
                name == "declarator" and "function_declarator" in node.type
            )
            stack.append((child, within and not defines, own, name in CALLED))
