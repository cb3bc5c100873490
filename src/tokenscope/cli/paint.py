"""Tokens in colour on a terminal, as they come."""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field

from rich.console import Console
from rich.style import Style
from rich.text import Text

from tokenscope.trace import ColumnSpec
from tokenscope.trace.columns import describe
from tokenscope.trace.display import visible
from tokenscope.trace.tokens import Tokens

# dark blue to yellow: even steps in lightness, safe for the colour-blind (after cividis,
# Nunez, Anderton, Renslow 2018)
ANCHORS = ((0, 34, 78), (64, 77, 107), (125, 124, 120), (188, 175, 111), (253, 231, 55))
OPEN_END = 20.0  # where a column says that its scale has no upper end
LEGEND_STEPS = 24


def shade(share: float) -> tuple[int, int, int]:
    """The colour at ``share`` (0..1) of the scale."""
    x = min(max(share, 0.0), 1.0) * (len(ANCHORS) - 1)
    i = min(int(x), len(ANCHORS) - 2)
    a, b = ANCHORS[i], ANCHORS[i + 1]
    red, green, blue = (round(p + (q - p) * (x - i)) for p, q in zip(a, b, strict=True))
    return red, green, blue


def style(share: float | None) -> Style:
    """Background by the scale, black or white ink on it, whichever reads better."""
    if share is None:
        return Style(dim=True)
    red, green, blue = shade(share)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 110
    return Style(color="black" if light else "white", bgcolor=f"rgb({red},{green},{blue})")


@dataclass
class Painter:
    """Prints tokens in the colour of one column. Bytes of a split character wait for the rest.

    ``coloured``: to a terminal. Elsewhere it prints the text alone: no special tokens, no more
    line ends than it has (but one at the end), nothing that was given.
    """

    console: Console
    column: str
    spec: ColumnSpec = field(init=False)

    def __post_init__(self) -> None:
        self.spec = describe(self.column)
        self.coloured = self.console.is_terminal
        self._ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def share(self, value: float) -> float | None:
        """Where a value lies between the ends of the scale; None where it is undefined."""
        if not math.isfinite(value):
            return None
        lo, hi = self._ends()
        if self.spec.scale == "log":
            value, lo, hi = (math.log(max(v, 1e-12)) for v in (value, lo, hi))
        return (value - lo) / (hi - lo)

    def _ends(self) -> tuple[float, float]:
        lo = self.spec.lo if self.spec.lo is not None else 0.0
        return lo, self.spec.hi if self.spec.hi is not None else lo + OPEN_END

    def tokens(self, tokens: Tokens, values: list[float], prompt: bool) -> None:
        """Print some tokens; those of the prompt in quiet ink."""
        if prompt and not self.coloured:
            return
        line = Text(end="")
        for token, value in zip(tokens, values, strict=True):
            label = token.label if self.coloured else None
            text = label or self._decoder.decode(token.bytes)
            if not text:
                continue
            if not self.coloured:
                self._plain(visible(text))
                continue
            ink = style(None if prompt else self.share(value))
            # a line break carries no background: it would fill the rest of the line
            for i, part in enumerate(visible(text).split("\n")):
                if i:
                    line.append("\n")
                line.append(part, ink)
        if self.coloured:
            self.console.print(line, end="", soft_wrap=True, highlight=False)
        else:
            self.console.file.flush()

    def around(self, text: str) -> None:
        """Text that was given, where what is printed is to be whole; a terminal has it already."""
        if text and not self.coloured:
            self._plain(visible(text))

    def _plain(self, text: str) -> None:
        self.console.file.write(text)  # rich would turn tabs into spaces
        self._ended = text.endswith("\n")

    def finish(self, after: str = "") -> None:
        """Print what is left of a cut character and what comes after all, and end the line."""
        rest = visible(self._decoder.decode(b"", final=True))
        if self.coloured:
            self.console.print(rest, soft_wrap=True)
            return
        if rest:
            self._plain(rest)
        self.around(after)
        if not self._ended:
            self._plain("\n")
        self.console.file.flush()

    def legend(self) -> Text:
        """The scale with its ends and unit."""
        lo, hi = self._ends()
        unit = f" {self.spec.unit}" if self.spec.unit else ""
        line = Text(f"{self.spec.title}  {lo:g} ")
        for i in range(LEGEND_STEPS):
            line.append(" ", style(i / (LEGEND_STEPS - 1)))
        line.append(f" {hi:g}{'+' if self.spec.hi is None else ''}{unit}")
        return line
