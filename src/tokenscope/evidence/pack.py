"""Rule packs: the user's own rules as tree-sitter queries in YAML, with samples that try them.

::

    pack: mine
    rules:
      - id: js-eval
        languages: [javascript, typescript]
        cwe: 95
        severity: high          # low, medium (default), high
        confidence: medium
        message: eval runs whatever the string holds
        query: |
          (call_expression function: (identifier) @f (#eq? @f "eval")) @finding
        bad:  ["eval(x)"]       # samples that the rule is to find ...
        good: ["evaluate(x)"]   # ... and samples that it is to leave alone

The span of a finding is the node captured as ``@finding``. A sample may be a mapping
``{code, language}``; without a language it is in the first one of the rule. Samples that a rule
gets wrong may stand there: they are what its measured recall and false-alarm rate come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tree_sitter import Query, QueryError

from tokenscope.code.aliases import chosen
from tokenscope.code.languages import LANGUAGES
from tokenscope.errors import InputError
from tokenscope.trace.findings import GRADES, Grade

STARTER = Path(__file__).parent / "packs"
_KEYS = {"id", "languages", "cwe", "severity", "confidence", "message", "query", "bad", "good"}
_MOST = 4 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """A piece of code that a rule is to find something in, or nothing."""

    code: str
    language: str
    bad: bool


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule; ``queries``: the compiled query of each of its languages."""

    id: str
    message: str
    cwe: int
    severity: Grade
    confidence: Grade
    queries: Mapping[str, Query]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, eq=False)
class Pack:
    """Rules that came from one file; ``name`` stands in front of their ids."""

    name: str
    rules: tuple[Rule, ...]

    def of(self, language: str) -> list[Rule]:
        """The rules that look at a language."""
        return [r for r in self.rules if language in r.queries]


@cache
def starter() -> tuple[Pack, ...]:
    """The packs that ship, one per language."""
    return tuple(read_pack(p) for p in sorted(STARTER.glob("*.yaml")))


def read_packs(path: Path) -> tuple[Pack, ...]:
    """A pack of one file, or all of a folder. Raises InputError."""
    if path.is_dir():
        files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        if not files:
            raise InputError("rules", "the folder holds no .yaml file")
        return tuple(read_pack(p) for p in files)
    return (read_pack(path),)


def read_pack(path: Path) -> Pack:
    """A pack; every query is compiled now. Raises InputError, which names the file and rule."""
    where = path.name
    try:
        with open(path, "rb") as opened:
            text = opened.read(_MOST + 1)
    except OSError as error:
        raise InputError(where, f"cannot be read: {error.strerror}") from error
    if len(text) > _MOST:
        raise InputError(where, f"holds more than {_MOST} bytes")
    try:
        held = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f" (line {mark.line + 1})" if mark is not None else ""
        raise InputError(where, f"is not YAML{at}") from None
    if not isinstance(held, dict) or not isinstance(held.get("rules"), list):
        raise InputError(where, "needs a list called rules")
    rules = tuple(_rule(r, f"{where}: rule {n + 1}") for n, r in enumerate(held["rules"]))
    names = [r.id for r in rules]
    if twice := [n for n in names if names.count(n) > 1]:
        raise InputError(where, f"two rules are called {twice[0][:80]!r}")
    return Pack(_text(held.get("pack", path.stem), where, "pack"), rules)


def _rule(held: Any, where: str) -> Rule:
    if not isinstance(held, dict):
        raise InputError(where, "must be a mapping")
    name = _text(held.get("id"), where, "id")
    where = f"{where} ({name[:80]})"
    if unknown := sorted(str(k) for k in set(held) - _KEYS):
        raise InputError(where, f"unknown key {unknown[0][:40]!r}; known: {sorted(_KEYS)}")
    spoken = held.get("languages")
    if not isinstance(spoken, list) or not spoken:
        raise InputError(where, "languages must be a list of names")
    languages = [chosen(_text(n, where, "languages")) for n in spoken]
    cwe = held.get("cwe", 0)
    if isinstance(cwe, bool) or not isinstance(cwe, int) or not 0 <= cwe < 100_000:
        raise InputError(where, "cwe must be a number")
    query = _text(held.get("query"), where, "query")
    return Rule(
        name, _text(held.get("message"), where, "message"), cwe,
        _grade(held.get("severity", "medium"), where, "severity"),
        _grade(held.get("confidence", "medium"), where, "confidence"),
        {n: _compiled(query, n, where) for n in languages},
        (*_samples(held.get("bad", []), True, languages[0], where),
         *_samples(held.get("good", []), False, languages[0], where)),
    )  # fmt: skip


def _compiled(query: str, language: str, where: str) -> Query:
    if language not in LANGUAGES:
        raise InputError(where, f"{language} has no grammar")
    try:
        made = Query(LANGUAGES.get(language).grammar, query)
    except (QueryError, ValueError, TypeError) as error:
        raise InputError(where, f"the query is none of {language}: {str(error)[:160]}") from None
    names = {made.capture_name(i) for i in range(made.capture_count)}
    if "finding" not in names:
        raise InputError(where, "the query captures no @finding")
    return made


def _samples(held: Any, bad: bool, language: str, where: str) -> Sequence[Sample]:
    if not isinstance(held, list):
        raise InputError(where, "bad and good must be lists of samples")
    made = []
    for sample in held:
        own = sample if isinstance(sample, dict) else {"code": sample}
        spoken = chosen(str(own["language"])) if "language" in own else language
        made.append(Sample(_text(own.get("code"), where, "code of a sample"), spoken, bad))
    return made


def _text(value: Any, where: str, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(where, f"{key} must be a text")
    return value


def _grade(value: Any, where: str, key: str) -> Grade:
    if value not in GRADES:
        raise InputError(where, f"{key} must be one of {', '.join(GRADES)}")
    grade: Grade = value
    return grade
