"""A grid of numbers as one self-contained piece of HTML, for notebooks. No script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokenscope.pictures.paper import framed, head, safe, signed, signed_legend

MOST_COLUMNS = 120


def heat(
    title: str, rows: Sequence[str], columns: Sequence[str],
    values: NDArray[np.floating], top: float = 1.0,
) -> str:  # fmt: skip
    """A table (R, C) coloured from -``top`` to ``top``; NaN is left empty. Texts are escaped."""
    shown = min(len(columns), MOST_COLUMNS)
    more = f"the first {shown} of {len(columns)} columns" if shown < len(columns) else ""
    up = "".join(f"<th>{safe(c[:14])}</th>" for c in columns[:shown])
    body = "".join(
        f"<tr><th>{safe(name[:14])}</th>"
        + "".join(_cell(float(v), top) for v in line[:shown])
        + "</tr>"
        for name, line in zip(rows, values, strict=True)
    )
    facts = head(title, more, legend=signed_legend(top, ""))
    return framed(f"{facts}<table><tr><th></th>{up}</tr>{body}</table>")


def _cell(value: float, top: float) -> str:
    if not np.isfinite(value):
        return "<td></td>"
    return f'<td class="{signed(value, top)}">{value:.2f}</td>'
