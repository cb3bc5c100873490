"""Checks: analysers by name, each from a piece of code to findings.

A check is a function in a file of ``evidence/checks``, registered by name. It says what it could
not do in ``notes`` (code that does not parse was closed first, or could not be judged at all), and
never fails on hostile code: what an analyser raises becomes a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tokenscope.evidence.pack import Pack
from tokenscope.registry import Registry
from tokenscope.trace.findings import Finding
from tokenscope.trace.tokens import Tokens

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Code:
    """What is checked. ``complete``: a whole file, rather than a text that may go on.

    ``changed``: byte ranges that are judged, None for all: findings that touch none are dropped.
    """

    data: bytes
    language: str
    complete: bool = False
    changed: Ranges | None = None


@dataclass(frozen=True, eq=False)
class Options:
    """``allow``: packages that exist, beside the standard library (None: the list that ships);
    ``project``: the project's own top-level modules; ``packs``: rule packs (None: the starter
    pack); ``semgrep``: a file or folder of local semgrep rules."""

    allow: frozenset[str] | None = None
    project: frozenset[str] = frozenset()
    packs: tuple[Pack, ...] | None = None
    semgrep: str = ""


@dataclass(eq=False)
class Found:
    """``findings`` in order of their bytes, and ``notes`` on what a check could not do."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Check = Callable[[Code, Options], Found]
CHECKS: Registry[Check] = Registry("check")
for _name, _file in (
    ("syntax", "syntax"), ("bandit", "python_bandit"), ("imports", "imports"),
    ("secrets", "secrets"), ("rules", "rules"), ("semgrep", "semgrep"),
):  # fmt: skip
    CHECKS.promise(_name, f"tokenscope.evidence.checks.{_file}")
# semgrep is a program of its own that has to be installed and given rules
DEFAULT_CHECKS: tuple[str, ...] = ("syntax", "bandit", "imports", "secrets", "rules")


def find(
    code: Code, names: Sequence[str] = DEFAULT_CHECKS, options: Options = Options(),
    tokens: Tokens | None = None,
) -> Found:  # fmt: skip
    """All findings of the checks ``names`` in ``code``, by position, each once.

    ``tokens``: of this very text; the findings are then tied to them. Raises UnknownName.
    """
    found = Found()
    for name in names:
        check = CHECKS.get(name)
        try:
            made = check(code, options)
        except (RecursionError, MemoryError) as error:
            found.notes.append(f"{name}: gave up ({type(error).__name__})")
            continue
        found.findings += made.findings
        found.notes += [f"{name}: {n}" for n in made.notes]
    kept = {(f.rule, f.start, f.end): f for f in _touching(found.findings, code.changed)}
    found.findings = sorted(kept.values(), key=lambda f: (f.start, f.end, f.rule))
    if tokens is not None:
        found.findings = [f.at(tokens) for f in found.findings]
    return found


def _touching(findings: Iterable[Finding], changed: Ranges | None) -> Iterable[Finding]:
    if changed is None:
        return findings
    return [f for f in findings if any(f.start < b and a < max(f.end, f.start + 1)
                                       for a, b in changed)]  # fmt: skip
