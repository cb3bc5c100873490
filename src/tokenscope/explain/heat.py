"""A grid of numbers as one self-contained piece of HTML, for notebooks. No script."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokenscope.trace.display import visible

# evenly lighter towards 0 on both sides; readable in grey and for the colour-blind
NEGATIVE, MIDDLE, POSITIVE = (179, 88, 6), (255, 253, 244), (68, 103, 196)
MOST_COLUMNS = 120
CELL = "padding:1px 4px;text-align:right;font:11px ui-monospace,monospace;color:"


def heat(
    title: str, rows: Sequence[str], columns: Sequence[str],
    values: NDArray[np.floating], top: float = 1.0,
) -> str:  # fmt: skip
    """A table (R, C) coloured from -``top`` to ``top``; NaN is left empty. Texts are escaped."""
    shown = min(len(columns), MOST_COLUMNS)
    head = "".join(f"<th style='{CELL}#5c6170'>{_text(c)}</th>" for c in columns[:shown])
    body = "".join(
        f"<tr><th style='{CELL}#5c6170'>{_text(name)}</th>"
        + "".join(_cell(float(v), top) for v in line[:shown])
        + "</tr>"
        for name, line in zip(rows, values, strict=True)
    )
    more = f" The first {shown} of {len(columns)} columns." if shown < len(columns) else ""
    return (
        f"<div style='overflow:auto'><div style='font:12px system-ui,sans-serif;color:#1b1f2a'>"
        f"{html.escape(visible(title))}{more}</div>"
        f"<table style='border-collapse:collapse'><tr><th></th>{head}</tr>{body}</table></div>"
    )


def _text(given: str) -> str:
    return html.escape(visible(given)[:14])


def _cell(value: float, top: float) -> str:
    if not np.isfinite(value):
        return "<td></td>"
    x = max(-1.0, min(1.0, value / top))
    end = POSITIVE if x >= 0 else NEGATIVE
    mixed = tuple(round(m + (e - m) * abs(x)) for m, e in zip(MIDDLE, end, strict=True))
    ink = "#ffffff" if abs(x) > 0.62 else "#1b1f2a"
    return f"<td style='{CELL}{ink};background:rgb{mixed}'>{value:.2f}</td>"
