"""When two branches count as the same outcome: they have one key.

A key is a function from an :class:`Ended` to a string. By name: ``bytes``, ``syntax``,
``regex:PATTERN``, ``query:PATTERN``, ``behaviour:TESTFILE``; from Python also any callable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenscope.code.aliases import PLAIN
from tokenscope.code.languages import LANGUAGES
from tokenscope.errors import InputError, MissingError, UnknownName
from tokenscope.explore import python_shape
from tokenscope.registry import Registry

LONGEST_PATTERN = 2000
PATTERN_S = 1.0  # seconds that a pattern may take on one branch


@dataclass(frozen=True, slots=True)
class Ended:
    """A finished branch, as a key sees it.

    ``data``: all bytes, the prompt's too; ``start``: the byte from which on it is explored;
    ``language``: of the code ("text": none is known); ``finish``: eos, stop or length.
    """

    data: bytes
    start: int
    language: str
    finish: str

    @property
    def text(self) -> str:
        """What was explored."""
        return self.data[self.start :].decode("utf-8", "replace")

    @property
    def whole(self) -> str:
        """Prompt and continuation."""
        return self.data.decode("utf-8", "replace")


Key = Callable[[Ended], str]
KEYS: Registry[Callable[[str], Key]] = Registry("outcome key")
"""Name -> maker: it takes what stands after the colon ("" for none) and gives the key."""


def key_of(asked: str | Key) -> Key:
    """The key that was asked for. Raises UnknownName, InputError for a pattern that is none."""
    if callable(asked):
        return _safe(asked)
    name, colon, argument = str(asked).partition(":")
    if name not in KEYS:
        raise UnknownName("outcome", name, KEYS.names())
    if (colon and not argument) or len(argument) > LONGEST_PATTERN:
        raise InputError("outcome", f"{name}: needs 1..{LONGEST_PATTERN} characters")
    return KEYS.get(name)(argument)


def _safe(function: Callable[[Ended], object]) -> Key:
    """A user's callable: what it gives is taken as text."""

    def key(ended: Ended) -> str:
        return str(function(ended))

    return key


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise InputError("outcome", f"{name} takes nothing after it")


@KEYS.register("bytes")
def by_bytes(argument: str) -> Key:
    """The same text, byte for byte."""
    _no_argument("bytes", argument)
    return lambda ended: ended.data[ended.start :].decode("utf-8", "surrogateescape")


@KEYS.register("syntax")
def by_syntax(argument: str) -> Key:
    """The same code up to renaming of locals, formatting and comments; bytes where no language is
    known. ``syntax:LANGUAGE`` says which."""
    from tokenscope.code.aliases import chosen

    language = chosen(argument) if argument else ""

    def key(ended: Ended) -> str:
        name = language or ended.language
        if name == "python":
            return digest(python_shape.shape(ended.whole))
        if name in PLAIN or name not in LANGUAGES:
            return ended.data[ended.start :].decode("utf-8", "surrogateescape")
        from tokenscope.explore import tree_shape

        return digest(tree_shape.shape(ended.data, name))

    return key


@KEYS.register("regex")
def by_regex(pattern: str) -> Key:
    """The groups of the first match in what was explored (all of it where there are none);
    ``no match`` where there is none. Raises InputError for a pattern that does not compile."""
    import regex

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise InputError("outcome", f"regex: {error.msg} at {error.pos}") from None

    def key(ended: Ended) -> str:
        try:
            found = compiled.search(ended.text, timeout=PATTERN_S)
        except TimeoutError:
            raise InputError("outcome", f"regex: took more than {PATTERN_S:g} s") from None
        if found is None:
            return "no match"
        groups = found.groups() or (found.group(),)
        return " | ".join(g if g is not None else "" for g in groups)

    return key


@KEYS.register("query")
def by_query(pattern: str) -> Key:
    """What a tree-sitter query captures at or after the first explored byte, in the order of the
    text, without blanks; ``no match`` where it captures nothing. Raises InputError where the
    language is not known or the query is none of it."""

    def key(ended: Ended) -> str:
        from tokenscope.explore import tree_shape

        found = tree_shape.captured(ended.data, ended.language, pattern, ended.start)
        return " | ".join(found) or "no match"

    return key


@KEYS.register("behaviour")
def by_behaviour(path: str) -> Key:
    """How the test file at ``path`` ends when it is run beside the branch (``branch.py``, prompt
    and continuation) in a sandbox: passes, fails, out of time ... Raises InputError for a file
    that cannot be read, MissingError where there is no sandbox; nothing is ever run without."""
    from tokenscope.explore import sandbox

    if not path:
        raise InputError("outcome", "behaviour needs the path of a test file: behaviour:PATH")
    try:
        test = Path(path).read_bytes()
    except OSError as error:
        raise InputError("outcome", f"behaviour: cannot be read: {error.strerror}") from None
    if reason := sandbox.unavailable():
        raise MissingError(f"no test is run without a sandbox: {reason}")
    known: dict[bytes, str] = {}

    def key(ended: Ended) -> str:
        if ended.data not in known:
            known[ended.data] = str(sandbox.run(ended.data, test))
        return known[ended.data]

    return key


def digest(shape: str) -> str:
    """A long shape, short."""
    return hashlib.sha256(shape.encode("utf-8", "surrogatepass")).hexdigest()[:24]
