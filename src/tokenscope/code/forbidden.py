"""Imports, calls and patterns that a text must not come to hold: asked of a text that grows.

A pattern over the bytes finds what may be one, cheaply; the syntax tree then says whether it
stands in a string or a comment. What is wholly in the first ``begin`` bytes is let be. An import
counts as soon as the module's name stands there, a call as soon as its bracket opens.

What it cannot see: other names for the same thing (``e = eval``), and names made at run time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tree_sitter import Query, QueryCursor, QueryError

from tokenscope.code.languages import LANGUAGES
from tokenscope.code.tree import tree_of
from tokenscope.errors import InputError

_GAP = r"(?:\s|\\\r?\n|#[^\n]*\n)*"
_DOTTED = re.compile(rb"(?:[^\W\d]|[\x80-\xff])(?:\w|[\x80-\xff]|\s*\.\s*(?=[\w\x80-\xff]))*")
_IMPORT = re.compile(rb"(?<![\w.])(import|from)(?![\w])")
_QUOTED = ("string", "comment", "char_literal", "string_literal")


class Forbidden:
    """Raises InputError for a query that cannot be read, UnknownName for a language."""

    def __init__(
        self, imports: Sequence[str], calls: Sequence[str], query: str, language: str, begin: int
    ) -> None:
        self._entry = LANGUAGES.get(language)
        self._modules = [m.encode() for m in imports]
        self._calls = [re.compile(_call(c).encode()) for c in calls]
        self._begin = begin
        self._cursor: QueryCursor | None = None
        if query:
            try:
                self._cursor = QueryCursor(Query(self._entry.grammar, query))
            except (QueryError, SyntaxError, ValueError) as error:
                raise InputError("query", "is no tree-sitter query for this language") from error

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` holds something forbidden that reaches beyond ``begin``."""
        if self._named(data, self._begin):
            return True
        if not data.isascii() and (self._modules or self._calls):
            # to Python a name in other letters of the same form (NFKC) is the same name
            head = _normal(data[: self._begin])
            if self._named(head + _normal(data[self._begin :]), len(head)):
                return True
        if self._cursor is None:
            return False
        tree = tree_of(data, self._entry, budget_s=1.0)
        if tree is None:
            return True  # what cannot be looked at in time is not let through
        found = self._cursor.matches(tree.root_node)
        return any(
            node.end_byte > self._begin
            for _, captures in found
            for nodes in captures.values()
            for node in nodes
        )

    def suspects(self, data: bytes) -> bool:
        """Whether ``data`` has to be looked at whole whatever comes next: there is a query, or a
        name stands in a string or comment that may turn out to be none."""
        return self._cursor is not None or self._named(data, self._begin, quoted=True)

    def concerns(self, data: bytes, piece: bytes) -> bool:
        """Whether ``piece`` may be the end of something forbidden after ``data``: an opening
        bracket, or anything on a line that imports."""
        if self._calls and (b"(" in piece or not piece.isascii()):
            return True
        start = data.rfind(b"\n")
        while start > 0 and data[start - 1 : start] == b"\\":
            start = data.rfind(b"\n", 0, start)
        line = data[start + 1 :] + piece
        return bool(self._modules) and (b"import" in line or b"from" in line)

    def _named(self, data: bytes, begin: int, quoted: bool = False) -> bool:
        """Whether a name stands where it must not, or (``quoted``) in a string or comment."""
        spans = [m.span() for call in self._calls for m in call.finditer(data)]
        if self._modules:
            spans += self._imported(data)
        spans = [s for s in spans if s[1] > begin]
        return bool(spans) and (quoted or self._in_code(data, [s[0] for s in spans]))

    def _imported(self, data: bytes) -> list[tuple[int, int]]:
        """Where the name of a forbidden module stands after ``import`` or ``from``."""
        found = []
        for m in _IMPORT.finditer(data):
            before = re.split(rb"[\n;:]", data[: m.start()])[-1]
            if before.strip():
                continue  # "from x import y": y is no module; "raise a from b"
            rest = re.split(rb"(?<!\\)\n|;", data[m.end() :])[0].replace(b"\\\n", b"  ")
            parts = rest.split(b",") if m.group(1) == b"import" else [rest]
            at = m.end()
            for part in parts:
                name = _DOTTED.search(part)
                lead = part[: name.start()].strip(b" \t\f") if name else b""
                if name and not lead and self._is_forbidden(name.group()):
                    found.append((m.start(), at + name.end()))
                at += len(part) + 1
        return found

    def _is_forbidden(self, name: bytes) -> bool:
        plain = re.sub(rb"\s", b"", name)
        return any(plain == m or plain.startswith(m + b".") for m in self._modules)

    def _in_code(self, data: bytes, places: Sequence[int]) -> bool:
        tree = tree_of(data, self._entry, budget_s=1.0)
        if tree is None:
            return True
        for at in places:
            node = tree.root_node.descendant_for_byte_range(at, at + 1)
            while node is not None and node.type not in (*_QUOTED, "interpolation"):
                node = node.parent
            if node is None or node.type == "interpolation":
                return True
        return False


def _normal(data: bytes) -> bytes:
    return unicodedata.normalize("NFKC", data.decode("utf-8", "replace")).encode()


def _call(name: str) -> str:
    """A pattern of the opening bracket after a dotted name; ``*.name`` is a method of anything."""
    dot = rf"{_GAP}\.{_GAP}"
    if name.startswith("*."):
        path, front = name[2:].split("."), rf"\.{_GAP}"
    else:
        path, front = name.split("."), r"(?<![\w.])"
    return front + dot.join(re.escape(p) for p in path) + rf"{_GAP}\("
