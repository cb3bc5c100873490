"""A Markdown summary for a pull request; text of the model cannot become markup in it."""

from __future__ import annotations

from pathlib import Path

from tokenscope.evidence.records import write_text
from tokenscope.evidence.report import LIMITS, WRITERS, Report, data_of, place, snippet
from tokenscope.trace.display import visible

_MOST = 20
# as entities: escaped by a backslash some would still work inside a table
_SPECIAL = {c: f"&#{ord(c)};" for c in "&<>\\`*_{}[]()#+-.!|~@:/$^=\"'"}


@WRITERS.register("markdown")
def write_markdown(report: Report, folder: Path) -> Path:
    """``report.md``."""
    path = folder / "report.md"
    write_text(path, "\n".join(_lines(report)) + "\n")
    return path


def inert(text: str, most: int = 200) -> str:
    """Hostile text as Markdown shows it: no markup, no HTML, one line. Inside a ``code`` element
    neither names (``@somebody``) nor addresses become links."""
    flat = " ".join(visible(text).split())[:most]
    return f"<code>{''.join(_SPECIAL.get(c, c) for c in flat)}</code>"


def _lines(report: Report) -> list[str]:
    f = report.figures
    lines = [
        f"## TokenScope audit: {report.state}", "",
        f"{f.cases} cases, {f.samples} samples, {report.groups} groups of findings, "
        f"{report.errors_total} errors. Model {inert(str(report.header.get('model', '')))}.", "",
    ]  # fmt: skip
    if report.verdicts:
        lines += ["| gate | result | value | 95 % interval | n | |", "|---|---|---|---|---|---|"]
        for v in report.verdicts:
            b = v.bound
            lines.append(
                f"| {inert(str(v.gate))} | {v.state} | {b.value:.4g} | "
                f"{b.lower:.4g} to {b.upper:.4g} | {b.n} | {inert(v.why)} |"
            )
        lines.append("")
    if report.worst:
        lines += ["| severity | rule | case | place | in | text |", "|---|---|---|---|---|---|"]
        for group in report.worst[:_MOST]:
            x = group.finding
            line, column = place(data_of(group.sample), x["start"])
            lines.append(
                f"| {x['severity']} | {inert(x['rule'])} | {inert(group.case, 60)} | "
                f"{line}:{column} | {group.risk.value:.0%} of {group.risk.n} | "
                f"{inert(snippet(group.sample, x), 80)} |"
            )
        if report.groups > _MOST:
            lines.append(f"\nThe worst {_MOST} of {report.groups}.")
        lines.append("")
    return [*lines, *(f"- {text}" for text in LIMITS)]
