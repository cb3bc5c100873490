"""JUnit XML: a test per gate and per case, as continuous integration shows them.

Gates fail tests; an undecided one fails too, as type ``undecided``. A case fails none by its
findings: what is too much is for the policy to say. They stand in its ``system-out``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tokenscope import disk
from tokenscope.evidence.report import WRITERS, Report
from tokenscope.trace.display import visible

_MOST_OUT = 20  # findings that are listed of one case


@WRITERS.register("junit")
def write_junit(report: Report, folder: Path) -> Path:
    """``report.junit.xml``."""
    path = folder / "report.junit.xml"
    disk.write_whole(path, (p.encode("utf-8", "replace") for p in _pieces(report)))
    return path


def _pieces(report: Report) -> Iterator[str]:
    bad = sum(v.state != "passed" for v in report.verdicts)
    cases, errors = report.figures.cases, report.figures.errors
    total = len(report.verdicts) + cases
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<testsuites name="tokenscope audit"'
    yield f' tests="{total}" failures="{bad}" errors="{errors}">\n'
    yield (f'<testsuite name="gates" tests="{len(report.verdicts)}" failures="{bad}" errors="0"'
           ' skipped="0" time="0">\n')  # fmt: skip
    for verdict in report.verdicts:
        name = _attribute(str(verdict.gate))
        yield f'<testcase classname="tokenscope.gate" name={name} time="0">'
        if verdict.state != "passed":
            said = f"{verdict.gate}: {verdict.state}: {verdict.why}"
            yield f'<failure type="{verdict.state}" message={_attribute(said)}>'
            yield f"{_text(said)}</failure>"
        yield "</testcase>\n"
    yield "</testsuite>\n"
    yield (f'<testsuite name="cases" tests="{cases}" failures="0" errors="{errors}" skipped="0"'
           ' time="0">\n')  # fmt: skip
    for record in report.cases():
        where = record["path"] or record["form"]
        yield f'<testcase classname={_attribute(where)} name={_attribute(record["case"])} time="0">'
        if record["error"]:
            said = record["error"]["message"]
            yield f"<error type={_attribute(record['error']['code'])} message={_attribute(said)}/>"
        yield from _out(record)
        yield "</testcase>\n"
    yield "</testsuite>\n</testsuites>\n"


def _out(record: dict[str, Any]) -> Iterator[str]:
    found = [(s["sample"], f) for s in record["samples"] for f in s["findings"]]
    if not found:
        return
    lines = [
        f"sample {n}: {f['severity']} {f['rule']} bytes {f['start']}-{f['end']}: {f['message']}"
        for n, f in found[:_MOST_OUT]
    ]
    if len(found) > _MOST_OUT:
        lines.append(f"and {len(found) - _MOST_OUT} more")
    yield f"<system-out>{_text(chr(10).join(lines))}</system-out>"


def _text(text: str) -> str:
    return escape(visible(text))


def _attribute(text: str) -> str:
    return quoteattr(visible(text)[:500])
