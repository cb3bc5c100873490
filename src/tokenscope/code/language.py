"""A language: its grammar, and what each node kind of the grammar means here."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tree_sitter import Language as Grammar

from tokenscope.errors import MissingError
from tokenscope.trace.regions import CATEGORY_CODE, LEVEL_BITS

# Patterns that hold in nearly every grammar; an entry of the table adds to them or, with "!",
# takes away from them. A pattern is a node kind, or a glob over node kinds.
SHARED = {
    "comment": "comment *_comment *comment_marker",
    "string": "*string* escape_sequence char_literal character character_literal *_interpolation"
    " !*interpolated_expression !interpolation !string_interpolation !*_expression !*_array",
    "number": "integer float number *_integer_literal integer_literal float_literal *number_literal"
    " *_floating_point_literal int_literal real_literal",
    "constant": "true false null nil none *_null null_literal boolean_literal boolean nil_literal",
    "identifier": "identifier *_identifier !type_identifier !scoped_* !qualified_* !nested_*",
    "type": "type_identifier primitive_type predefined_type *_type void_type",
    "statement": "*_statement *_declaration !parameter_declaration !variable_declaration"
    " !field_declaration",
    "expression": "*_expression",
    "block": "block *_block compound_statement *_body !function_body",
}

LEVEL_FIELDS = ("expression", "statement", "block", "function", "class")
CATEGORY_FIELDS = (
    "keyword", "type", "identifier", "number", "constant", "string", "operator", "punctuation",
    "comment", "text",
)  # fmt: skip

_WORD = re.compile(r"[@#$]?[A-Za-z_][\w ?!-]*\Z")
_PUNCTUATION = frozenset((
    "(", ")", "[", "]", "{", "}", ",", ";", ":", ".", "::", "->", "=>", "?", "</", "/>", "${",
    "#{", "\\(", "%>", "<?php", "?>",
))  # fmt: skip
_QUOTES = frozenset((
    '"', "'", "`", "'''", '"""', 'f"', 'R"', 'L"', 'u"', 'U"', 'u8"', "L'", "u'", "U'", "u8'",
    '""',
))  # fmt: skip


def matches(kind: str, patterns: str) -> bool:
    """Whether ``kind`` fits a space-separated list of globs, where "!" takes away."""
    hit = False
    for pattern in patterns.split():
        if pattern.startswith("!"):
            hit = hit and not fnmatchcase(kind, pattern[1:])
        else:
            hit = hit or fnmatchcase(kind, pattern)
    return hit


@dataclass(frozen=True, eq=False)
class Language:
    """One entry of the table. Every field after ``fences`` is a list of node kinds or globs.

    ``module`` and ``entry`` locate the grammar's wheel; ``suffixes`` and ``fences`` are what files
    and Markdown call the language. Kinds listed here are added to SHARED, in front of it.
    ``hints`` are regular expressions over the beginning of a text that speak for this language.
    """

    name: str
    title: str
    module: str
    entry: str = "language"
    suffixes: str = ""
    fences: str = ""
    expression: str = ""
    statement: str = ""
    block: str = ""
    function: str = ""
    klass: str = ""
    keyword: str = ""
    identifier: str = ""
    type: str = ""
    string: str = ""
    number: str = ""
    constant: str = ""
    operator: str = ""
    punctuation: str = ""
    comment: str = ""
    text: str = ""
    hints: tuple[str, ...] = field(default=())

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar. Raises MissingError when its wheel is not installed."""
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            wheel = self.module.replace("_", "-")
            raise MissingError(f"the grammar of {self.title} is not installed: {wheel}") from error
        return Grammar(getattr(module, self.entry)())

    def patterns(self, role: str) -> str:
        """The globs of a role: the shared ones, then this language's own (so "!" can refine)."""
        own = self.klass if role == "class" else str(getattr(self, role))
        return f"{SHARED.get(role, '')} {own}".strip()

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Node kinds by the grammar's symbol number, plus ``ERROR`` as the last."""
        n = self.grammar.node_kind_count
        names = tuple(self.grammar.node_kind_for_id(i) or "" for i in range(n))
        return (*names, "ERROR")

    @cached_property
    def levels(self) -> NDArray[np.uint8]:
        """uint8 (kinds,): LEVEL_BITS of every symbol."""
        bits = np.zeros(len(self.kinds), dtype=np.uint8)
        for role in LEVEL_FIELDS:
            globs = self.patterns(role)
            for i, kind in enumerate(self.kinds[:-1]):
                if self.grammar.node_kind_is_named(i) and matches(kind, globs):
                    bits[i] |= LEVEL_BITS[role]
        return bits

    @cached_property
    def categories(self) -> NDArray[np.uint8]:
        """uint8 (kinds,): the category code of every symbol."""
        codes = np.zeros(len(self.kinds), dtype=np.uint8)
        codes[-1] = CATEGORY_CODE["error"]
        globs = {role: self.patterns(role) for role in CATEGORY_FIELDS}
        for i, kind in enumerate(self.kinds[:-1]):
            named = self.grammar.node_kind_is_named(i)
            codes[i] = CATEGORY_CODE[self._category(kind, named, globs)]
        return codes

    def _category(self, kind: str, named: bool, globs: dict[str, str]) -> str:
        own = next((r for r in CATEGORY_FIELDS if matches(kind, str(getattr(self, r)))), None)
        if own:
            return own
        if named:
            return next((r for r in CATEGORY_FIELDS if matches(kind, globs[r])), "other")
        if kind in _QUOTES:
            return "string"
        if kind in _PUNCTUATION:
            return "punctuation"
        if not kind.strip():
            return "whitespace"
        return "keyword" if _WORD.match(kind) else "operator"

    @cached_property
    def definitions(self) -> frozenset[int]:
        """Symbol numbers whose nodes carry a name: functions and classes."""
        bits = LEVEL_BITS["function"] | LEVEL_BITS["class"]
        return frozenset(np.flatnonzero(self.levels & bits).tolist())
