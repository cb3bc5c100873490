"""Edits that say which text may come: values, checked when they are made.

Each is a mask over the tokens: what it does not allow cannot be drawn, whatever it is cut into.
The model's own columns never change by one; its price is seen beside them (``price``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

from tokenscope.errors import InputError
from tokenscope.trace.edits import EDITS, Standing, nats, one_of, strings, whole

LONGEST = 200  # bytes of a required string
MOST_BYTES = 16_384  # of all banned strings together
MOST_GRAMMAR = 100_000  # characters
SCOPES = ("text", "generated")


@dataclass(frozen=True, slots=True)
class BiasText(Standing):
    """``amount`` nats are given to each of ``strings`` in all, however it is cut into tokens.

    Every token that brings a string further gets its share by bytes; what leaves it half written
    loses what it got. So the sum over a text is the amount times how often the string occurs.
    """

    kind: ClassVar[str] = "bias_text"
    strings: tuple[str, ...]
    amount: float

    def __post_init__(self) -> None:
        self.check()
        strings(self.kind, "strings", self.strings, 100)
        nats(self.kind, self.amount)


@dataclass(frozen=True, slots=True)
class BanText(Standing):
    """None of ``strings`` may come to stand in the text, also not begun in the prompt's last bytes.

    No tokenisation of a string gets through: the bytes are looked at, not the tokens.
    """

    kind: ClassVar[str] = "ban_text"
    strings: tuple[str, ...]

    def __post_init__(self) -> None:
        self.check()
        strings(self.kind, "strings", self.strings)
        if sum(len(s.encode()) for s in self.strings) > MOST_BYTES:
            raise InputError(self.kind, f"its strings may take {MOST_BYTES} bytes together")


@dataclass(frozen=True, slots=True)
class Require(Standing):
    """``string`` must be written.

    ``within`` n: it stands in the text by the n-th token. Without it: the text ends with it, at
    the latest where the tokens run out.
    """

    kind: ClassVar[str] = "require"
    anchors: ClassVar[bool] = True
    string: str
    within: int | None = None

    def __post_init__(self) -> None:
        self.check()
        strings(self.kind, "string", (self.string,), 1)
        if len(self.string.encode()) > LONGEST:
            raise InputError(self.kind, f"the string may take {LONGEST} bytes")
        if self.within is not None:
            whole(self.kind, "within", self.within, 1)

    def anchored(self, begin: int, end: int) -> Standing:
        """With its deadline: ``until`` is the first token that is too late."""
        at = self.at or begin
        last = at + self.within if self.within is not None else end
        return replace(self, at=at, until=last if self.until is None else self.until)


@dataclass(frozen=True, slots=True)
class Regex(Standing):
    """What is generated, from ``at`` on, matches the regular expression as a whole."""

    kind: ClassVar[str] = "regex"
    anchors: ClassVar[bool] = True
    pattern: str

    def __post_init__(self) -> None:
        self.check()
        strings(self.kind, "pattern", (self.pattern,), 1, MOST_GRAMMAR)


@dataclass(frozen=True, slots=True)
class JsonSchema(Standing):
    """What is generated, from ``at`` on, is a JSON document that fits the schema (a JSON text)."""

    kind: ClassVar[str] = "json_schema"
    anchors: ClassVar[bool] = True
    schema: str

    def __post_init__(self) -> None:
        self.check()
        strings(self.kind, "schema", (self.schema,), 1, MOST_GRAMMAR)
        try:
            held = json.loads(self.schema)
        except (ValueError, RecursionError):
            held = None
        if not isinstance(held, dict):
            raise InputError(self.kind, "the schema must be the text of a JSON object")


@dataclass(frozen=True, slots=True)
class Grammar(Standing):
    """What is generated, from ``at`` on, follows a grammar in Lark's notation."""

    kind: ClassVar[str] = "grammar"
    anchors: ClassVar[bool] = True
    lark: str

    def __post_init__(self) -> None:
        self.check()
        strings(self.kind, "lark", (self.lark,), 1, MOST_GRAMMAR)


@dataclass(frozen=True, slots=True)
class Viable(Standing):
    """Only what some Python program can begin with; it ends only where the program is whole.

    ``scope``: ``text`` counts what stands before, ``generated`` only what comes. Tokens are judged
    from the likeliest on, until the judged hold ``cover`` of the mass; the rest cannot be drawn.
    """

    kind: ClassVar[str] = "viable"
    anchors: ClassVar[bool] = True
    scope: str = "text"
    cover: float = 0.999

    def __post_init__(self) -> None:
        self.check()
        one_of(self.kind, "scope", self.scope, SCOPES)
        _cover(self.kind, self.cover)


@dataclass(frozen=True, slots=True)
class BanCode(Standing):
    """No import of these modules, no call of these functions, no match of a tree-sitter query.

    ``imports`` (Python): ``os`` bans ``import os``, ``from os.path import x``. ``calls`` (Python):
    ``eval``, ``os.system``; ``*.execute`` is a method of anything. ``query``: a tree-sitter query
    in ``language``; what it matches in the prompt alone is let be. ``scope``, ``cover``: as in
    :class:`Viable`.
    """

    kind: ClassVar[str] = "ban_code"
    anchors: ClassVar[bool] = True
    imports: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    query: str = ""
    language: str = "python"
    scope: str = "text"
    cover: float = 0.999

    def __post_init__(self) -> None:
        self.check()
        if not (self.imports or self.calls or self.query):
            raise InputError(self.kind, "needs imports, calls or a query")
        for what in ("imports", "calls"):
            if getattr(self, what):
                strings(self.kind, what, getattr(self, what), 1000, 200)
                if self.language != "python":
                    raise InputError(self.kind, f"{what} are known for Python; use a query")
        if self.query:
            strings(self.kind, "query", (self.query,), 1, 10_000)
        strings(self.kind, "language", (self.language,), 1, 32)
        one_of(self.kind, "scope", self.scope, SCOPES)
        _cover(self.kind, self.cover)


def _cover(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.5 <= value < 1:
        raise InputError(name, "cover must lie in 0.5..1, below 1")


for _kind in (BiasText, BanText, Require, Regex, JsonSchema, Grammar, Viable, BanCode):
    EDITS.add(_kind.kind, _kind)
