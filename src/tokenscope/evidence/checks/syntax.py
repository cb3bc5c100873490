"""Syntax: can this text be, or become, a program?

A whole file must parse. A text that may go on (``complete`` false) must be *viable*: some
continuation parses. Python is judged by CPython's own parser; other languages by tree-sitter,
which proves less: of a whole file its error nodes are reported, of an unfinished one only what
nothing that follows can mend.
"""

from __future__ import annotations

from tokenscope.code.languages import LANGUAGES
from tokenscope.code.parse import parse
from tokenscope.code.viable import judge
from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.evidence.closing import parses
from tokenscope.trace.findings import Finding

_MOST = 20  # error nodes of one text that are reported


@CHECKS.register("syntax")
def check(code: Code, options: Options) -> Found:
    """``syntax/not-viable`` where an unfinished text went wrong, else ``syntax/error``."""
    if code.language not in LANGUAGES:
        return Found(notes=[f"not judged: {code.language} has no grammar here"])
    if code.language == "python":
        return _python(code)
    if code.complete:
        return _errors(code)
    if judge(code.data, code.language) == "not":
        at = _where(code.data, lambda part: judge(part, code.language) != "not")
        return Found([_finding("not-viable", "nothing that follows can mend this", at)])
    return Found()


def _python(code: Code) -> Found:
    if code.complete:
        text = code.data.decode("utf-8", "replace")
        if parses(text.removeprefix("\ufeff")):
            return Found()
        rule, said = "error", "does not parse as Python"
    else:
        verdict = judge(code.data, "python")
        if verdict == "viable":
            return Found()
        if verdict == "unknown":
            return Found(notes=["not judged: nested too deeply"])
        rule, said = "not-viable", "no continuation of this parses as Python"
    at = _where(code.data, lambda part: judge(part, "python") != "not")
    return Found([_finding(rule, said, at)])


def _where(data: bytes, good: object) -> int:
    """The first byte that no viable prefix holds. Viability only ever falls, so halving finds it:
    a prefix of a viable text is viable."""
    low, high = 0, len(data)
    while low + 1 < high:
        middle = (low + high) // 2
        if good(data[:middle]):  # type: ignore[operator]
            low = middle
        else:
            high = middle
    return min(low, max(len(data) - 1, 0))


def _errors(code: Code) -> Found:
    regions = parse(code.data, code.language)
    found = Found()
    for i in range(len(regions)):
        if not (regions.error[i] or regions.missing[i]):
            continue
        if len(found.findings) == _MOST:
            found.notes.append(f"only the first {_MOST} errors are listed")
            break
        start, end = int(regions.start[i]), int(regions.end[i])
        said = "something is missing here" if regions.missing[i] else "does not parse"
        found.findings.append(
            Finding("syntax/error", f"{said} as {code.language}", start, end, "syntax", 0, "low",
                    "medium")
        )  # fmt: skip
    return found


def _finding(rule: str, message: str, at: int) -> Finding:
    return Finding(f"syntax/{rule}", message, at, at + 1, "syntax", 0, "low", "high")
