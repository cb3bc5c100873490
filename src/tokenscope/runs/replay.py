"""A trace made again from its origin: the test of all that an origin promises to hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError, MissingError
from tokenscope.runs.generate import SLOW, begin, fork
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.columns import F32
from tokenscope.trace.origin import Segment
from tokenscope.trace.record import Trace

# of max(1, |value|): what feeding in other pieces moves in float32, since a product of one row and
# one of several sum in other orders. Seen so far: 5e-6 to 1.6e-5 on the bundled model, 6e-5 on
# SmolLM2-135M, whose logits are larger.
TOLERANCE = 1e-4
RANK_TOLERANCE = 0.01  # of max(100, rank): one place near the top, neighbours that tie below
NOT_COMPARED = ("time_ms",)


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it. ``same``: all ids equal, and every column within its tolerance.

    ``differs_at``: the first token that differs (None: none). ``columns``: the largest difference
    of each, over the tokens before that, relative to max(1, |value|). ``reasons``: what differs,
    and what of the environment may be why. ``trace``: the new one.
    """

    same: bool
    trace: Trace
    differs_at: int | None = None
    columns: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict; a difference that is not a number (a value on one side only) is null."""
        return {
            "same": self.same, "tokens": len(self.trace), "differs_at": self.differs_at,
            "columns": {n: v if np.isfinite(v) else None for n, v in self.columns.items()},
            "reasons": list(self.reasons),
        }  # fmt: skip


def replay(engine: Engine, trace: Trace, control: Control = QUIET) -> Replay:
    """Run a trace again and compare. ``control`` is told of tokens, and can end it (Cancelled).

    Raises MissingError when another model or tokenizer is loaded than made it, AbilityError for
    an edit that cannot be applied, InputError for a trace that does not say how it was made.
    """
    info, origin = engine.info, trace.origin
    if origin.model_digest != info.model_digest or origin.tokenizer_digest != info.tokenizer_digest:
        raise MissingError(
            f"the trace was made by {origin.model[:80]!r} (digest {origin.model_digest[:12]}), "
            f"loaded is {info.name[:80]!r} (digest {info.model_digest[:12]})"
        )
    again = _run(engine, trace, control)
    at = _first_difference(trace, again)
    columns = _columns(trace, again, at if at is not None else len(trace))
    reasons = []
    if at is not None:
        reasons.append(_why(trace, again, at))
    for name, error in columns.items():
        allowed = _tolerance(trace, name)
        if not error <= allowed:
            reasons.append(f"{name} differs by {error:.1e} (allowed: {allowed:.0e})")
    same = not reasons
    if not same:
        reasons += _environment(engine, trace)
    return Replay(same, again, at, columns, tuple(reasons))


def _watched(run: Run, total: int, control: Control) -> Trace:
    for step in run:
        control.step(step.end, total, "tokens")
    return run.trace


def _run(engine: Engine, trace: Trace, control: Control) -> Trace:
    """The trace from its first given tokens on: every part as a branch of the one before."""
    parts = list(_parts(trace))
    first = parts[0] if parts else None
    given = trace.tokens.slice(0, first[0] if first is not None else len(trace))
    if first is not None:
        settings = _settings(trace, *first, last=len(parts) == 1)
    elif trace.origin.form == "score" or trace.finish in ("scored", "cancelled", "error"):
        k = trace.alternatives.k if trace.alternatives is not None else 0
        settings = Settings(max_new_tokens=0, alternatives=k, attention="none")
    else:
        raise InputError("trace", "its origin does not say how its tokens were drawn")
    run = begin(
        engine, given, trace.origin.form, settings, language=trace.language,
        n_prompt=min(trace.n_prompt, len(given)), fresh=True,
    )  # fmt: skip
    made = _watched(run, len(trace), control)
    for n, part in enumerate(parts[1:], 1):
        start, end, _ = part
        cut = parts[n - 1][1]
        settings = _settings(trace, *part, last=n == len(parts) - 1)
        run = fork(engine, made.cut(cut), cut, trace.ids[cut:start].tolist(), settings)
        made = _watched(run, len(trace), control)
        if len(made) < end and n < len(parts) - 1:
            return made  # it ended early: what comes after has nothing to stand on
    end = parts[-1][1] if parts else len(trace)
    if parts and end < len(trace) and len(made) >= end:  # tokens put in at the very end
        settings = Settings.of(parts[-1][2], max_new_tokens=0)
        made = fork(engine, made.cut(end), end, trace.ids[end:].tolist(), settings).result()
    return made


def _parts(trace: Trace) -> Iterator[tuple[int, int, Segment]]:
    """(start, end, segment) of the stretches that were drawn, in order."""
    found: tuple[int, Segment] | None = None
    for t in range(len(trace)):
        segment = trace.origin.segment(t)
        if found is not None and segment is not found[1]:
            yield found[0], t, found[1]
            found = None
        if segment is not None and found is None:
            found = (t, segment)
    if found is not None:
        yield found[0], len(trace), found[1]


def _settings(trace: Trace, start: int, end: int, segment: Segment, last: bool) -> Settings:
    """As it was, except that a part which was cut short is not made longer than it was kept."""
    if last and end == len(trace) and trace.finish not in ("cancelled", "error", ""):
        return Settings.of(segment)
    return Settings.of(segment, max_new_tokens=end - start)


def _first_difference(a: Trace, b: Trace) -> int | None:
    n = min(len(a), len(b))
    unequal = np.nonzero(a.ids[:n] != b.ids[:n])[0]
    if len(unequal):
        return int(unequal[0])
    return n if len(a) != len(b) else None


def _columns(a: Trace, b: Trace, upto: int) -> dict[str, float]:
    names = [n for n in dict.fromkeys([*a.columns, *b.columns]) if n not in NOT_COMPARED]
    return {
        n: _difference(_values(a, n)[:upto], _values(b, n)[:upto], 100.0 if n == "rank" else 1.0)
        for n in names
    }


def _values(trace: Trace, name: str) -> F32:
    if name in trace.columns:
        return trace.column(name)
    return np.full(len(trace), np.nan, dtype=np.float32)


def _difference(a: F32, b: F32, least: float) -> float:
    one, two = a.astype(np.float64), b.astype(np.float64)
    if bool((np.isnan(one) != np.isnan(two)).any()):
        return float("inf")
    with np.errstate(invalid="ignore"):
        error = np.where(one == two, 0.0, np.abs(one - two) / np.maximum(least, np.abs(one)))
    return float(np.nanmax(error, initial=0.0))


def _tolerance(trace: Trace, name: str) -> float:
    if name == "rank":
        return RANK_TOLERANCE
    return max(TOLERANCE, float(trace.origin.errors.get(name, 0.0)))


def _why(a: Trace, b: Trace, at: int) -> str:
    if at >= len(a) or at >= len(b):
        return f"it ends after {len(b)} tokens, not {len(a)} ({b.finish} for {a.finish})"
    text = f"token {at} is {int(b.ids[at])}, not {int(a.ids[at])}"
    held = a.alternatives
    if held is not None and int(b.ids[at]) in held.ids[at] and int(a.ids[at]) in held.ids[at]:
        pair = [float(held.logprobs[at][held.ids[at] == t.ids[at]][0]) for t in (a, b)]
        text += f"; their logprobs lie {abs(pair[0] - pair[1]):.1e} nats apart"
    return text


def _environment(engine: Engine, trace: Trace) -> list[str]:
    """What is not as it was when the trace was made."""
    info, origin = engine.info, trace.origin
    now = {
        "dtype": (origin.dtype, info.dtype), "device": (origin.device, info.device),
        "kernel": (origin.kernel.removesuffix(SLOW), info.kernel),
        "backend": (origin.backend, info.backend),
        "threads": (origin.threads or torch.get_num_threads(), torch.get_num_threads()),
    }  # fmt: skip
    now |= {n: (origin.versions.get(n, "?"), v) for n, v in info.versions.items()}
    return [f"{n} was {was}, is {it}" for n, (was, it) in now.items() if was != it]
