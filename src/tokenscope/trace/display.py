"""Text from a model, made safe to look at: nothing hidden, nothing that steers."""

from __future__ import annotations

import unicodedata

# the two control characters that code is made of; every other one is made visible
_PLAIN = {"\n", "\t"}
# what a spreadsheet takes for the start of a formula, full-width forms among them
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66\ufe6b")


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


def cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a quote goes before what looks like one.

    Control, format (bidi, zero-width) and space characters in front are looked through, as a
    spreadsheet may drop them; a cell that begins with a control or format character gets the
    quote in any case (a tab or a line end splits cells when pasted).
    """
    first = next((c for c in text if unicodedata.category(c)[0] not in "CZ"), "")
    hidden = unicodedata.category(text[0])[0] == "C" if text else False
    return f"'{text}" if first in _FORMULA or hidden else text
