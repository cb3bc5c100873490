"""What a command is given to read: texts, files, stdin; and what is refused before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenscope.cli.output import writable
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.trace import Trace

MOST_INPUT = 8 << 20


def refuse(column: str, language: str, save: Path | None) -> None:
    """What can be told before a model is loaded. Raises UnknownName, InputError."""
    import tokenscope.metrics  # noqa: F401 (registers the columns that a run measures)
    from tokenscope.trace.columns import COLUMNS

    COLUMNS.get(column)
    if language:
        from tokenscope.code.aliases import chosen

        chosen(language)
    if save is not None:
        writable(save, "--save")


def given(text: str | None, file: Path | None, field: str) -> str:
    """The text itself, that of a file, or (``-``) of stdin. Raises InputError."""
    if (text is None) == (file is None):
        raise InputError(field, "give exactly one of a text, a file, and - for stdin")
    if file is not None:
        try:
            with open(file, "rb") as opened:
                return decoded(opened.read(MOST_INPUT + 1), field)
        except OSError as error:
            raise InputError(field, f"cannot be read: {error.strerror}") from error
    if text == "-":
        return decoded(sys.stdin.buffer.read(MOST_INPUT + 1), "stdin")
    return decoded_argument(text or "", field)


def given_file(file: Path, field: str = "FILE") -> str:
    """The text of a file, or (``-``) of stdin. Raises InputError."""
    return given("-", None, field) if str(file) == "-" else given(None, file, field)


def decoded_argument(text: str, field: str) -> str:
    """A text of the command line. Raises InputError when it was no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(field, "is not valid UTF-8") from None
    return text


def decoded(data: bytes, field: str) -> str:
    """Bytes as text. Raises InputError when there are too many, or they are no UTF-8."""
    if len(data) > MOST_INPUT:
        raise InputError(field, f"holds more than {MOST_INPUT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(field, f"is not UTF-8 (byte {error.start})") from None


def saved(path: Path, field: str = "TRACE") -> Trace:
    """A trace that was saved. Raises InputError, StoreError."""
    from tokenscope.trace import read

    if not path.is_file():
        raise InputError(field, "is no file")
    return read(path)


def token_of(given: str | None) -> str | int | None:
    """``#7`` is an id, anything else a text."""
    if given is not None and given.startswith("#") and given[1:].isdigit():
        return int(given[1:])
    return given
