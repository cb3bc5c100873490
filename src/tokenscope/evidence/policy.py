"""A policy: what is checked, how it is sampled, and the gates that a result has to pass.

::

    checks = ["syntax", "bandit", "imports", "secrets", "rules"]
    on_error = "skip"                  # or "stop": what to do with a line that is no case

    [sampling]
    samples = 20
    temperature = 0.8
    max_new_tokens = 128

    [imports]
    allow = ["numpy", "requests"]
    project = ["mybank"]

    [gates]
    "CWE-78".risk_upper = "<= 0.02"
    parse_rate.lower = ">= 0.98"
    surprisal.statement.p99 = "<= 9"

or ``gates = ['"CWE-78".risk_upper <= 0.02', 'parse_rate.lower >= 0.98']``. A gate holds the right
end of an interval against a limit: an upper limit the upper end, a lower limit the lower end. It
is *passed* when that end keeps the limit, *failed* when the other end breaks it, and *undecided*
when the interval holds the limit: then there were too few samples to tell, which is no pass.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenscope.errors import InputError, UnknownName
from tokenscope.evidence.bounds import Bound
from tokenscope.evidence.check import CHECKS, DEFAULT_CHECKS

Operator = Literal["<=", ">="]
State = Literal["passed", "failed", "undecided"]
_LIMIT = re.compile(r"\A(<=|>=|<|>)?\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(%)?\Z")
_LINE = re.compile(r"\A(.+?)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?\s*%?)\s*\Z")
_KEYS = {"checks", "on_error", "sampling", "imports", "rules", "semgrep", "gates", "language",
         "risk", "note"}  # fmt: skip
_SAMPLING = {"samples": int, "temperature": float, "top_p": float, "top_k": int, "min_p": float,
             "max_new_tokens": int, "seed": int, "stop": list,
             "repetition_penalty": float}  # fmt: skip
_RISK = {"width": int, "most": int, "horizon": int, "draws": int}
_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Gate:
    """``figure`` (its name, without an end) must be ``operator`` ``limit``."""

    figure: str
    operator: Operator
    limit: float

    @property
    def end(self) -> str:
        """The end of the interval that is held against the limit."""
        return "upper" if self.operator == "<=" else "lower"

    def __str__(self) -> str:
        return f"{self.figure}.{self.end} {self.operator} {self.limit:g}"

    def judge(self, bound: Bound) -> Verdict:
        """Passed, failed, or undecided; ``margin`` > 0: kept by that much, < 0: missed."""
        sign = 1.0 if self.operator == "<=" else -1.0
        near, far = (
            (bound.upper, bound.lower) if self.operator == "<=" else (bound.lower, bound.upper)
        )
        margin = sign * (self.limit - near)
        if margin >= 0:  # NaN is neither: undecided
            state: State = "passed"
        elif sign * (far - self.limit) > 0:
            state = "failed"
        else:
            state = "undecided"
        return Verdict(self, bound, state, margin)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a gate."""

    gate: Gate
    bound: Bound
    state: State
    margin: float

    @property
    def why(self) -> str:
        """One sentence."""
        if self.state == "passed":
            return f"kept by {self.margin:.4g}"
        if self.state == "failed":
            return f"missed by {-self.margin:.4g}, the whole interval lies beyond the limit"
        return (
            f"too few samples to tell ({self.bound.n}): the interval "
            f"[{self.bound.lower:.4g}, {self.bound.upper:.4g}] holds the limit"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        margin = self.margin if math.isfinite(self.margin) else None
        return {
            "gate": str(self.gate), "figure": self.gate.figure, "operator": self.gate.operator,
            "limit": self.gate.limit, "end": self.gate.end, "state": self.state,
            "margin": margin, "why": self.why, "bound": self.bound.to_json(),
        }  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """What a policy file says; every field has a default, so that none is needed."""

    checks: tuple[str, ...] = DEFAULT_CHECKS
    on_error: Literal["", "skip", "stop"] = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    allow: tuple[str, ...] | None = None
    project: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    semgrep: str = ""
    language: str = ""
    risk: Mapping[str, Any] | None = None
    gates: tuple[Gate, ...] = ()

    def judge(self, figure: Callable[[str], Bound]) -> list[Verdict]:
        """One verdict per gate, worst first. ``figure``: the bound of a name; may raise
        UnknownName."""
        order = {"failed": 0, "undecided": 1, "passed": 2}
        found = [g.judge(figure(g.figure)) for g in self.gates]
        return sorted(found, key=lambda v: (order[v.state], v.margin))


def read_policy(path: Path) -> Policy:
    """Read a TOML file. Raises InputError, which names the key."""
    try:
        with open(path, "rb") as opened:
            data = opened.read(_MOST + 1)
    except OSError as error:
        raise InputError("--policy", f"cannot be read: {error.strerror}") from error
    return policy_text(data, "--policy")


def policy_text(data: bytes, field: str = "policy") -> Policy:
    """A policy from the bytes of a TOML file. Raises InputError, which names the key."""
    if len(data) > _MOST:
        raise InputError(field, f"holds more than {_MOST} bytes")
    try:
        held = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        where = re.search(r"\(at line \d+, column \d+\)", str(error))
        raise InputError(field, f"is not TOML {where.group() if where else ''}") from None
    return policy_of(held)


def policy_of(held: Mapping[str, Any]) -> Policy:
    """A policy from plain values. Raises InputError, UnknownName."""
    if unknown := sorted(set(held) - _KEYS):
        raise UnknownName("policy", unknown[0], _KEYS)
    checks = _names(held.get("checks", list(DEFAULT_CHECKS)), "checks")
    for name in checks:
        if name not in CHECKS:
            raise UnknownName("policy: checks", name, CHECKS.names())
    on_error = held.get("on_error", "")
    if on_error not in ("", "skip", "stop"):
        raise InputError("policy: on_error", "must be skip or stop")
    imports = held.get("imports", {})
    if not isinstance(imports, dict) or set(imports) - {"allow", "project"}:
        raise InputError("policy: imports", "takes allow and project")
    risk = held.get("risk")
    if risk is not None:
        risk = _numbers(risk, _RISK, "risk")
    allow = imports.get("allow")
    return Policy(
        checks, on_error, _numbers(held.get("sampling", {}), _SAMPLING, "sampling"),
        None if allow is None else _names(allow, "imports.allow"),
        _names(imports.get("project", []), "imports.project"),
        _names(held.get("rules", []), "rules"), str(held.get("semgrep", "")),
        str(held.get("language", "")), risk, tuple(_gates(held.get("gates", []))),
    )  # fmt: skip


def _numbers(held: Any, known: Mapping[str, type], table: str) -> dict[str, Any]:
    if not isinstance(held, dict):
        raise InputError(f"policy: {table}", "must be a table")
    made = {}
    for name, value in held.items():
        kind = known.get(name)
        if kind is None:
            raise UnknownName(f"policy: {table}", name, known)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = number if kind is float else isinstance(value, kind) and not isinstance(value, bool)
        if not good:
            raise InputError(f"policy: {table}.{name}", f"must be a {kind.__name__}")
        made[name] = value
    return made


def _gates(held: Any, prefix: tuple[str, ...] = ()) -> Iterator[Gate]:
    if isinstance(held, list):
        for line in held:
            found = _LINE.match(line) if isinstance(line, str) else None
            if found is None:
                raise InputError("policy: gates", "a line must be FIGURE <= LIMIT or >= LIMIT")
            yield _gate(found.group(1).replace('"', ""), found.group(2) + found.group(3))
    elif isinstance(held, dict):
        for name, value in held.items():
            if isinstance(value, dict):
                yield from _gates(value, (*prefix, name))
            else:
                yield _gate(".".join((*prefix, name)), value)
    else:
        raise InputError("policy: gates", "must be a table or a list of lines")


def _gate(name: str, value: Any) -> Gate:
    where = f"policy: gate {name[:80]}"
    figure, end = _split(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InputError(where, 'must be a limit such as "<= 0.02"')
    found = _LIMIT.match(str(value).strip())
    if found is None:
        raise InputError(where, 'must be a limit such as "<= 0.02"')
    operator, number, percent = found.groups()
    if operator is None:
        if not end:
            raise InputError(where, 'needs a direction: "<= LIMIT" or ">= LIMIT"')
        operator = "<=" if end == "upper" else ">="
    operator = operator[0] + "="
    try:
        limit = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        raise InputError(where, "the limit is no number") from None
    if end and end != ("upper" if operator == "<=" else "lower"):
        raise InputError(where, f"{operator} is held against the other end of the interval")
    return Gate(figure, operator, limit)  # type: ignore[arg-type]


def _split(name: str) -> tuple[str, str]:
    """``CWE-78.risk_upper`` -> (``CWE-78.risk``, ``upper``)."""
    for end in ("upper", "lower"):
        if name.endswith((f".{end}", f"_{end}")):
            return name[: -len(end) - 1], end
    return name, ""


def _names(held: Any, where: str) -> tuple[str, ...]:
    if not isinstance(held, list) or any(not isinstance(n, str) or not n for n in held):
        raise InputError(f"policy: {where}", "must be a list of names")
    return tuple(held)
