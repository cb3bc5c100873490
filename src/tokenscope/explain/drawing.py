"""An explanation as a picture: the sentence, the text in signed colours, the tables below."""

from __future__ import annotations

import numpy as np

from tokenscope.explain.explanation import Explanation
from tokenscope.pictures.paper import framed, head, safe, signed, signed_legend
from tokenscope.trace.drawn import PICTURES, Picture

MOST_ROWS = 40
BEFORE = 2000  # tokens drawn before the one that is explained


def why(made: Explanation) -> Picture:
    """Every token before the explained one in the colour of its attribution (nats): towards A, or
    towards B (or away from A); the explained token outlined; evidence beside; tables folded."""
    at, tokens = made.target.at, made.trace.tokens
    top = float(np.max(np.abs(made.values), initial=0.0))
    begin = max(0, at - BEFORE)
    parts = [
        f'<span class="{signed(float(made.values[t]), top)}{" mark" if tokens[t].special else ""}" '
        f'title="{safe(f"token {t}: {float(made.values[t]):+.4f} nats")}">'
        f"{safe(tokens[t].text)}</span>"
        for t in range(begin, at)
    ]
    parts.append(f'<span class="here">{safe(made.token)}</span>')
    rather = "" if made.contrast is None else f" rather than {made.contrast!r}"
    facts = head(
        f"why {made.token!r}{rather}", made.method, f"f = {made.value:.3f} nats",
        legend=signed_legend(top, "nats"),
    )  # fmt: skip
    words = "".join(f"<p>{safe(w)}</p>" for w in (made.sentence, made.beside, made.note) if w)
    cut = "&hellip; " if begin else ""
    tables = "".join(
        f"<details><summary>{safe(name)}: {safe(table.note or f'{len(table.rows)} rows')}</summary>"
        f"{_rows(made, name)}</details>"
        for name, table in made.tables.items()
    )
    inside = f'{facts}{words}<div class="code">{cut}{"".join(parts)}</div>{tables}'
    return Picture(f"Why {made.token!r}{rather}", framed(inside))


def _rows(made: Explanation, name: str) -> str:
    frame = made.table(name).head(MOST_ROWS)
    up = "".join(f"<th>{safe(str(c))}</th>" for c in frame.columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_value(v)}</td>" for v in row) + "</tr>"
        for row in frame.itertuples(index=False)
    )
    return f"<table><tr>{up}</tr>{lines}</table>"


def _value(value: object) -> str:
    return safe(f"{value:.4f}" if isinstance(value, float) else str(value)[:60])


PICTURES.add("why", why)
