"""Text from a model, made safe to look at: nothing hidden, nothing that steers."""

from __future__ import annotations

import unicodedata

# the two control characters that code is made of; every other one is made visible
_PLAIN = {"\n", "\t"}


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
