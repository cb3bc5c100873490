"""``trace.findings``: what the checks find in a trace's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from tokenscope.code.views import language_of
from tokenscope.evidence.check import DEFAULT_CHECKS, Options
from tokenscope.evidence.fenced import checked
from tokenscope.trace.findings import Finding
from tokenscope.trace.record import VIEWS, Trace


@dataclass(frozen=True, slots=True)
class Looked:
    """``findings`` in order of their bytes, tied to tokens; ``notes`` on what a check could not
    do; ``complete``: the text was judged as a whole one."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    complete: bool


_LOOKED: WeakKeyDictionary[Trace, dict[str, Looked]] = WeakKeyDictionary()


def look(trace: Trace, language: str | None = None) -> Looked:
    """What the default checks find, kept as long as the trace lives. Raises UnknownName."""
    name = language_of(trace, language)
    held = _LOOKED.setdefault(trace, {})
    if name not in held:
        complete = whole(trace)
        made = checked(trace.tokens, name, complete, None, DEFAULT_CHECKS, Options())
        held[name] = Looked(tuple(made.findings), tuple(made.notes), complete)
    return held[name]


def whole(trace: Trace) -> bool:
    """Whether the text is meant to be whole: given code, or one that the model ended itself."""
    return trace.n_prompt >= len(trace) or trace.finish in ("eos", "stop")


@VIEWS.register("findings")
def findings(
    trace: Trace, checks: Sequence[str] = (), *, language: str | None = None,
    options: Options | None = None, part: str = "all",
) -> tuple[Finding, ...]:  # fmt: skip
    """Findings in order of their bytes, tied to tokens. ``part``: ``all``, or ``generated`` for
    those that touch what was generated. Raises UnknownName."""
    if not checks and options is None and part == "all":
        return look(trace, language).findings
    data = trace.tokens.data
    start = int(trace.tokens.offsets[trace.n_prompt]) if part == "generated" else 0
    judged = None if part == "all" else ((start, max(len(data), start + 1)),)
    made = checked(
        trace.tokens, language_of(trace, language), whole(trace), judged,
        tuple(checks) or DEFAULT_CHECKS, options or Options(),
    )  # fmt: skip
    return tuple(made.findings)
