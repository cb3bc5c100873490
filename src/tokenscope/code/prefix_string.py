"""A Python string that is still open: what closes it, and whether what it holds can go on."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

# an escape that has only begun, behind an even number of backslashes
_HALF_ESCAPE = re.compile(
    r"(?<!\\)(?:\\\\)*(\\(?:x[\da-fA-F]?|u[\da-fA-F]{0,3}|U[\da-fA-F]{0,7}|N(?:\{[^}]*)?|))\Z"
)
_ENDS = re.compile(r"[}:]|!(?!=)|(?<![=!<>])=(?!=)")  # what ends the expression of a field


def closed(prefix: str, quote: str, body: str, viable: Callable[[str], bool]) -> str | None:
    """A whole string in the place of the open ``prefix quote body``; None when nothing closes it.

    ``viable`` judges the expression of a field of an f-string that is still open.
    """
    kind = prefix.lower()
    if "f" in kind or "t" in kind:
        return "''" if fields(body, "r" in kind, viable) else None
    if "r" in kind:
        return "b''" if "b" in kind else "''"
    body = body.rstrip(quote[0])  # of a triple quote that is being closed
    half = _HALF_ESCAPE.search(body)
    return prefix + quote + (body[: half.start(1)] if half else body) + quote


def fields(body: str, raw: bool, viable: Callable[[str], bool]) -> bool:
    """Whether the replacement fields of an open f-string parse, the last of them up to its end.

    CPython 3.11 looks at them only when the string is closed; later versions see them as tokens.
    """
    at = 0
    while (at := body.find("{", at)) >= 0:
        named = not raw and body[:at].endswith("\\N")  # \N{DASH}
        if named or body[at + 1 : at + 2] == "{":
            at += 2
            continue
        end = _end(body, at + 1)
        expression = body[at + 1 : end]
        if end == len(body):
            return not expression.strip() or viable(expression)
        if not _parses(expression):
            return False
        at = end
    return True


def _end(body: str, at: int) -> int:
    """Where the expression that starts at ``at`` ends: before ``}``, ``:``, ``!r`` or ``=``."""
    depth, quote = 0, ""
    while at < len(body):
        if quote:
            if body.startswith(quote, at):
                at, quote = at + len(quote), ""
                continue
        elif (mark := body[at]) in "\"'":
            quote = mark * 3 if body.startswith(mark * 3, at) else mark
            at += len(quote)
            continue
        elif depth == 0 and _ENDS.match(body, at):
            return at
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        at += 1
    return at


def _parses(expression: str) -> bool:
    try:
        compile(f"({expression}\n)", "<field>", "eval", ast.PyCF_ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return bool(expression.strip())
