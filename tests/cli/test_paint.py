"""Coloured tokens."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from tokenscope.cli.paint import ANCHORS, Painter, shade, style
from tokenscope.trace import Tokens
from tokenscope.trace.display import visible


def painter(column: str = "surprisal", colour: bool = False) -> tuple[Painter, io.StringIO]:
    out = io.StringIO()
    system = "truecolor" if colour else None
    console = Console(file=out, force_terminal=colour, color_system=system, width=40)
    return Painter(console, column), out


def test_a_character_in_pieces_is_printed_once_it_is_whole() -> None:
    paint, out = painter()
    pieces = [b"\xe2", b"\x82", b"\xac", b" \xf0"]
    paint.tokens(Tokens.of([1, 2, 3, 4], pieces), [1.0] * 4, False)
    paint.finish()
    assert out.getvalue() == "\u20ac \ufffd\n"


def test_colours_do_not_run_over_line_ends() -> None:
    paint, out = painter(colour=True)
    paint.tokens(Tokens.of([1], [b"a\nb"]), [3.0], False)
    first, second = out.getvalue().split("\n")
    assert first.endswith("\x1b[0m")
    assert second.startswith("\x1b[")


def test_long_lines_are_not_broken() -> None:
    paint, out = painter()
    paint.tokens(Tokens.of([1], [b"x" * 200]), [0.0], False)
    assert out.getvalue() == "x" * 200


def test_hostile_names_of_special_tokens_are_shown_as_text() -> None:
    paint, out = painter(colour=True)
    special = Tokens.of([1], [b""], {0: "[bold]\x1b[2J"})
    paint.tokens(special, [math.nan], False)
    assert "[bold]\u241b[2J" in out.getvalue()
    paint, out = painter()
    paint.tokens(special, [math.nan], False)
    assert out.getvalue() == "", "outside a terminal there is the text alone"


@pytest.mark.parametrize(
    ("column", "value", "share"),
    [("surprisal", 0, 0), ("surprisal", 3, 0.5), ("rank", 10, 0.5), ("rank", 1, 0),
     ("logprob", -12, 0), ("surprisal", math.nan, None), ("surprisal", math.inf, None)],
)  # fmt: skip
def test_the_scale_is_the_columns_own(column: str, value: float, share: float | None) -> None:
    import tokenscope.metrics.series
    import tokenscope.metrics.step  # noqa: F401  (the columns register themselves)

    assert painter(column)[0].share(value) == (pytest.approx(share) if share is not None else None)


def test_the_scale_grows_lighter_evenly() -> None:
    assert (shade(-1), shade(2)) == (ANCHORS[0], ANCHORS[-1])
    light = [
        0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(shade, (0, 0.25, 0.5, 0.75, 1))
    ]
    assert light == sorted(light)
    assert style(None).bgcolor is None


@pytest.mark.parametrize(
    ("text", "seen"),
    [("a\tb\nc", "a\tb\nc"), ("\x00\x1b\r", "\u2400\u241b\u240d"), ("\x7f", "\u2421"),
     ("\u202ex\u2066", "<U+202E>x<U+2066>"), ("\u200b\ufeff", "<U+200B><U+FEFF>"),
     ("\x9b31m", "<U+009B>31m"), ("\u00a0\u3000", "  "), ("\u2028", "<U+2028>"),
     ("\ue000", "<U+E000>"), ("\u00e9\U0001f600\u6f22", "\u00e9\U0001f600\u6f22")],
)  # fmt: skip
def test_nothing_hidden_nothing_that_steers(text: str, seen: str) -> None:
    assert visible(text) == seen


@pytest.mark.parametrize("text", ["a\tb\n", "a\n\n", "a", ""])
def test_a_file_gets_the_text_as_it_is_and_one_line_end(text: str) -> None:
    paint, out = painter()
    paint.tokens(Tokens.of([1], [text.encode()]), [1.0], False)
    paint.finish()
    assert out.getvalue() == (text if text.endswith("\n") else text + "\n")
