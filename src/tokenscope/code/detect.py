"""Which language a text is in: what the user says, the file's name, the fence, the content."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePath

from tokenscope.code.languages import LANGUAGES
from tokenscope.errors import UnknownName

PLAIN = ("markdown", "text")
_MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx", ".rmd", ".qmd")
_NAMES = {
    "gemfile": "ruby", "rakefile": "ruby", ".bashrc": "bash", ".profile": "bash",
    "pkgbuild": "bash",
    "sconstruct": "python",
}  # fmt: skip
_SAMPLE = 4000  # bytes of content that are looked at


def known() -> tuple[str, ...]:
    """Every name that a user may choose."""
    return (*LANGUAGES.names(), *PLAIN)


@cache
def _aliases() -> dict[str, str]:
    table = {fence: name for name, lang in LANGUAGES for fence in lang.fences.split()}
    return table | {name: name for name in known()} | {"md": "markdown", "txt": "text"}


@cache
def _suffixes() -> dict[str, str]:
    table = {suffix: name for name, lang in LANGUAGES for suffix in lang.suffixes.split()}
    return table | dict.fromkeys(_MARKDOWN_SUFFIXES, "markdown")


def chosen(name: str) -> str:
    """A user's choice ("py", "Python", "c++") as a name of the table. Raises UnknownName."""
    found = _aliases().get(name.strip().lower())
    if found is None:
        raise UnknownName("language", name, known())
    return found


def language_of_file(path: str | PurePath) -> str | None:
    """By the file's name or suffix; None when it says nothing."""
    path = PurePath(path)
    return _NAMES.get(path.name.lower()) or _suffixes().get(path.suffix.lower())


def language_of_fence(info: str) -> str | None:
    """By the word after the opening fence (``python``, ``{.python}``, ``py title="x"``)."""
    word = re.split(r"[\s,{}:]+", info.strip().lstrip("{").lstrip("."), maxsplit=1)[0]
    return _aliases().get(word.lower())


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
    from tokenscope.code.parse import parse

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
