"""Unfinished Python made whole, so that an analyser that needs a parsable file can read it.

Only the end is touched: open strings and brackets are closed, a header gets a body, an open
``try`` a handler; where that does not parse, lexemes and lines are dropped from the end until it
does. So every byte that stays keeps its place, and spans need no mapping back.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_CLOSER = {"(": ")", "[": "]", "{": "}"}
_STRING = re.compile(r"[rRbBuUfFtT]{0,2}('''|\"\"\"|'|\")")
# what may be missing before the brackets close, and after them; most likely first
_MIDDLE = ("", "None", "a", " None", " a", " else None", ": None", " in a", " import a", " as a")
_END = ("", ":\n{i} pass", "\n{i} pass", "()", "():\n{i} pass", " in a:\n{i} pass",
        ":\n{i} case _: pass", "\n{i} case _: pass", "\n{o}def a(): pass", " = None")  # fmt: skip
_LEXEME = re.compile(r"(?:\w+|[^\w\s]+|\s+)\Z")
_DROP_LINES = 40  # lines that may be dropped from the end


@dataclass(frozen=True, slots=True)
class Closed:
    """``text`` parses. ``kept``: its first bytes that are the original's; ``added`` bytes were put
    behind them, ``dropped`` bytes of the original left out."""

    text: str
    kept: int
    added: int
    dropped: int

    @property
    def note(self) -> str:
        """What was done, "" for nothing."""
        if not self.added and not self.dropped:
            return ""
        said = f"unfinished code was closed first ({self.added} bytes added"
        return said + (f", the last {self.dropped} left out)" if self.dropped else ")")


def close_python(text: str) -> Closed | None:
    """The text made whole; None where nothing of it parses."""
    for kept in _shorter(text):
        for made in _closings(kept):
            if parses(made):
                whole, data = text.encode(), made.encode()
                size = _shared(whole, data)
                return Closed(made, size, len(data) - size, len(whole) - size)
    return None


def _shared(a: bytes, b: bytes) -> int:
    """How many bytes both begin with."""
    short = min(len(a), len(b))
    return next((i for i in range(short) if a[i] != b[i]), short)


def parses(text: str) -> bool:
    """Whether CPython's parser takes it for a whole file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _shorter(text: str) -> Iterator[str]:
    """The text, then without its last lexemes, then without its last lines."""
    yield text
    if "\0" in text:
        return
    cut = text
    for _ in range(6):
        lexeme = _LEXEME.search(cut)
        if lexeme is None or "\n" in lexeme.group():
            break
        cut = cut[: lexeme.start()]
        yield cut
    lines = text.splitlines(keepends=True)
    for n in range(1, min(len(lines), _DROP_LINES) + 1):
        yield "".join(lines[:-n])


def _closings(text: str) -> Iterator[str]:
    yield text
    quote, brackets = open_at_end(text)
    closers = "".join(_CLOSER[b] for b in reversed(brackets))
    handlers = _handlers(text)
    indent = _indent(text)
    body = text[:-1] if text.endswith("\\") else text
    blank = "" if quote else re.sub(r"[ \t\n]+\Z", "", body)
    comment = not quote and "#" in text[text.rfind("\n") + 1 :]
    for middle in _MIDDLE if not quote else ("", "'"):
        for end in _END:
            shaped = end.format(i=indent, o=indent)
            start = body if quote or not end.startswith(":") else blank
            line = "\n" if comment and (middle or closers or shaped) else ""
            yield f"{start}{quote}{line}{middle}{closers}{shaped}{handlers}"


def open_at_end(text: str) -> tuple[str, list[str]]:
    """The quote of the string that is open at the end ("" for none), and the open brackets."""
    at, size = 0, len(text)
    brackets: list[str] = []
    while at < size:
        c = text[at]
        if c == "#":
            at = text.find("\n", at)
            if at < 0:
                break
        elif c in "'\"" or c.isalpha():
            opening = _STRING.match(text, at)
            if opening is None:
                while at < size and (text[at].isalnum() or text[at] == "_"):
                    at += 1
                continue
            quote = opening.group(1)
            end = _end_of_string(text, opening.end(), quote)
            if end is None:
                return quote, brackets
            at = end
            continue
        elif c in _CLOSER:
            brackets.append(c)
        elif c in ")]}" and brackets:
            brackets.pop()
        at += 1
    return "", brackets


def _end_of_string(text: str, at: int, quote: str) -> int | None:
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text.startswith(quote, at):
            return at + len(quote)
        elif text[at] == "\n" and len(quote) == 1:
            return at  # a string of one line that is broken: the line ends it
        else:
            at += 1
    return None


def _indent(text: str) -> str:
    """The indentation of the last line that holds something."""
    lines = [line for line in text.split("\n") if line.strip()]
    return re.match(r"[ \t]*", lines[-1]).group() if lines else ""  # type: ignore[union-attr]


def _handlers(text: str) -> str:
    """A ``finally`` for every ``try`` that has neither a handler nor one, innermost first."""
    open_: list[str] = []
    for line in text.split("\n"):
        found = re.match(r"([ \t]*)(try\s*:|except\b|finally\b|\S)", line)
        if found is None:
            continue
        indent, word = found.groups()
        while open_ and len(indent) < len(open_[-1]):
            open_.pop()
        if word.startswith("try"):
            open_.append(indent)
        elif word in ("except", "finally") and open_ and open_[-1] == indent:
            open_.pop()
    return "".join(f"\n{indent}finally: pass" for indent in reversed(open_))
