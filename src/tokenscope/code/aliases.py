"""What users, file names and Markdown fences call the languages of the table."""

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
