"""``trace.findings``: what the checks find in a trace's text."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from tokenscope.code.views import language_of
from tokenscope.evidence.check import DEFAULT_CHECKS, Options
from tokenscope.evidence.fenced import checked
from tokenscope.trace.findings import Finding
from tokenscope.trace.record import VIEWS, Trace

_FOUND: WeakKeyDictionary[Trace, tuple[Finding, ...]] = WeakKeyDictionary()


@VIEWS.register("findings")
def findings(
    trace: Trace, checks: Sequence[str] = (), *, language: str | None = None,
    options: Options | None = None, part: str = "all",
) -> tuple[Finding, ...]:  # fmt: skip
    """Findings in order of their bytes, tied to tokens. ``part``: ``all``, or ``generated`` for
    those that touch what was generated. Raises UnknownName."""
    plain = not checks and language is None and options is None and part == "all"
    if plain and trace in _FOUND:
        return _FOUND[trace]
    data = trace.tokens.data
    start = int(trace.tokens.offsets[trace.n_prompt]) if part == "generated" else 0
    given = trace.n_prompt >= len(trace)
    judged = None if part == "all" else ((start, max(len(data), start + 1)),)
    complete = given or trace.finish in ("eos", "stop")
    made = checked(
        trace.tokens, language_of(trace, language), complete, judged,
        tuple(checks) or DEFAULT_CHECKS, options or Options(),
    )  # fmt: skip
    found = tuple(made.findings)
    if plain:
        _FOUND[trace] = found
    return found
