"""What the commands print, and where."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

# the two control characters that code is made of; every other one is made visible
_PLAIN = {"\n", "\t"}


def document(value: Any) -> None:
    """One JSON document to stdout. Non-ASCII is escaped: no terminal can be steered by it."""
    sys.stdout.write(json.dumps(value, allow_nan=False, indent=1) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the reader's eyes, to stderr."""
    print(visible(text), file=sys.stderr, flush=True)


def fail(code: str, message: str, exit_code: int, as_json: bool) -> int:
    """Report an error; returns the exit code."""
    if as_json:
        document({"error": {"code": code, "message": message}})
    say(f"error: {message}")
    return exit_code


def visible(text: str) -> str:
    """Text that cannot steer a terminal or reorder a line: control characters as their pictures
    (U+2400..), format characters (bidi, zero-width), surrogates and the like as their number."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in _PLAIN or c.isprintable() else picture(c) for c in text)


def picture(character: str) -> str:
    """What stands for one character that must not reach a terminal."""
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)
    if number == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if unicodedata.category(character) == "Zs":
        return " "
    return f"<U+{number:04X}>"
