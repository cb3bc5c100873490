"""The checks over a text with tokens; of Markdown, as chat models answer, only what is fenced."""

from __future__ import annotations

from dataclasses import replace

from tokenscope.code.aliases import language_of_fence
from tokenscope.code.parse import fences
from tokenscope.evidence.check import Code, Found, Options, Ranges, find
from tokenscope.trace.tokens import Tokens


def checked(
    tokens: Tokens, language: str, complete: bool, judged: Ranges | None,
    checks: tuple[str, ...], options: Options,
) -> Found:  # fmt: skip
    """The findings, tied to ``tokens``. ``judged``: the bytes whose findings count, None: all.

    Every fence of Markdown is judged as code of its own, in the language that it names.
    """
    data = tokens.data
    if language != "markdown":
        return find(Code(data, language, complete, judged), checks, options, tokens)
    found = Found()
    for fence in fences(data):
        spoken = language_of_fence(fence.info)
        if spoken is None:
            continue
        inside = find(Code(data[fence.start : fence.end], spoken, fence.closed), checks, options)
        moved = [
            replace(f, start=f.start + fence.start, end=f.end + fence.start)
            for f in inside.findings
        ]
        if judged is not None:
            moved = [f for f in moved if any(f.start < b and a < f.end for a, b in judged)]
        found.findings += [f.at(tokens) for f in moved]
        found.notes += inside.notes
    return found
