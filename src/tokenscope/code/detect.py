"""Which language a text is in: what the user says, the file's name, else the content."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePath

from tokenscope.code.aliases import chosen, language_of_file
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.parse import parse

_SAMPLE = 4000  # bytes of content that are looked at

# First lines that leave no doubt.
_DECISIVE = (
    (re.compile(r"\A\s*<\?php"), "php"),
    (re.compile(r"(?i)\A\s*<!doctype html"), "html"),
    (re.compile(r"\A#!.*\bpython"), "python"),
    (re.compile(r"\A#!.*\b(ba|z|k|da)?sh\b"), "bash"),
    (re.compile(r"\A#!.*\bruby\b"), "ruby"),
    (re.compile(r"\A#!.*\b(node|deno|bun)\b"), "javascript"),
)


@cache
def _hints() -> list[tuple[str, list[re.Pattern[str]]]]:
    return [(n, [re.compile(h, re.MULTILINE) for h in lang.hints]) for n, lang in LANGUAGES]


def language_of_content(data: bytes) -> str:
    """By what the text looks like; "text" when nothing speaks for a language.

    Each language's hints are counted (a hint counts once, or twice if it occurs often); the best
    two are then parsed and the one with fewer bytes in error wins, so that TypeScript is not
    taken for JavaScript. A guess: a face shows it and lets the user choose.
    """
    text = data[:_SAMPLE].decode("utf-8", "replace")
    if re.search(r"^ {0,3}(```|~~~)", text, re.MULTILINE):
        return "markdown"
    for first, name in _DECISIVE:
        if first.search(text):
            return name
    scores: dict[str, int] = {}
    for name, patterns in _hints():
        for pattern in patterns:
            hits = len(pattern.findall(text))
            scores[name] = scores.get(name, 0) + min(hits, 3)
    ranked = sorted((n for n in scores if scores[n]), key=lambda n: -scores[n])
    if not ranked:
        return "text"
    close = [n for n in ranked[:3] if scores[n] >= scores[ranked[0]] - 2]
    if len(close) == 1:
        return ranked[0]
    return min(close, key=lambda n: (_broken(data[:_SAMPLE], n), -scores[n]))


def _broken(data: bytes, language: str) -> int:
    regions = parse(data, language)
    return int((regions.end - regions.start)[regions.error].sum()) + int(regions.missing.sum())


def detect(data: bytes, path: str | PurePath | None = None, choice: str | None = None) -> str:
    """The language of a text: the user's choice, else the file's name, else the content.

    Raises UnknownName on a choice that is not known.
    """
    if choice:
        return chosen(choice)
    by_name = language_of_file(path) if path is not None else None
    return by_name or language_of_content(data)
