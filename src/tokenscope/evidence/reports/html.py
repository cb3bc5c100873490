"""One HTML file: no script, no network, hostile text inert, readable from an e-mail, prints well.

There is no script at all, so nothing in it can run: folding is the browser's own ``details``, and
a Content-Security-Policy forbids everything but the file's own style, named by its hash. Text of
the model is escaped by the template engine, with control and bidirectional characters visible.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from tokenscope.evidence.records import write_text
from tokenscope.evidence.report import LIMITS, WRITERS, Group, Report, data_of, pieces_around, place
from tokenscope.trace.display import visible

_HERE = Path(__file__).parent
_HOT = 8.0  # nats at which a token has the deepest colour


@WRITERS.register("html")
def write_html(report: Report, folder: Path) -> Path:
    """``report.html``."""
    path = folder / "report.html"
    write_text(path, page(report))
    return path


def page(report: Report) -> str:
    """The document as text."""
    style = (_HERE / "report.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _template().render(
        report=report, figures=report.figures.shown(), limits=LIMITS,
        version=dict(report.header.get("versions", {})).get("tokenscope", ""),
        style=style, digest=digest, groups=[_shown(g) for g in report.worst],
        settings=_flat(report.header),
    )  # fmt: skip


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = lambda text: visible(str(text))
    environment.filters["number"] = _number
    return environment.from_string((_HERE / "report.html.jinja").read_text())


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _shown(group: Group) -> dict[str, Any]:
    """What the template draws of a group of findings."""
    pieces = pieces_around(group)
    line, column = place(data_of(group.sample), group.finding["start"])
    hot = [p for p in pieces if p.hot]
    asked = sorted((p for p in hot if p.surprisal is not None and p.alternatives),
                   key=lambda p: -(p.surprisal or 0.0))[:4]  # fmt: skip
    risk = next((r for r in group.sample.get("risks", ())
                 if any(group.sample["findings"][n]["rule"] == group.finding["rule"]
                        for n in r["findings"])), None)  # fmt: skip
    return {
        "group": group, "line": line, "column": column, "risk": risk,
        "pieces": [(p, _shade(p.surprisal)) for p in pieces],
        "asked": sorted(asked, key=lambda p: p.index),
    }  # fmt: skip


def _shade(surprisal: float | None) -> int:
    """0 (as expected) to 4, the step of the colour of a token."""
    return 0 if surprisal is None else min(4, int(5 * max(surprisal, 0.0) / _HOT))


def _flat(header: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Settings as rows of a table."""
    rows: list[tuple[str, str]] = []
    for name, value in dict(header).items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            rows.append((f"{prefix}{name}", shown[:300]))
    return rows
