"""Explorations of the distribution that tokens are drawn from: after edits and the sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.backends.protocol import ModelInfo
from tokenscope.control import Cancelled
from tokenscope.decode.appliers import INNER
from tokenscope.decode.changed import Likeliest, Row
from tokenscope.errors import AbilityError
from tokenscope.explore.frontier import Pending, Read
from tokenscope.runs.explore_sampled import sampler_of
from tokenscope.runs.generate import fork
from tokenscope.runs.settings import Settings
from tokenscope.trace.edits import Standing
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    from tokenscope.runs.explore import Exploring


def changed_of(work: Exploring, given: Mapping[str, Any]) -> Settings | None:
    """The sampler and edits of the trace, changed by ``given``; edits that depend on where they
    begin do so at the first explored token. None where nothing stands between the model's own
    distribution and the draw. Raises InputError, AbilityError."""
    made = sampler_of(work.written, work.at, given)
    end = work.at + work.ask.horizon
    edits = (e.anchored(work.at, end) if isinstance(e, Standing) else e for e in made.edits)
    made = replace(made, edits=tuple(edits))
    if not (made.edits or made.sampler().changes):
        return None
    if work.engine.abilities.stream or work.engine.abilities.scores != "full":
        raise AbilityError("this backend does not tell the whole distribution under edits")
    return made


def root(work: Exploring) -> int:
    """Branch 0: what was written, as the sampler and the edits measure it. Where a token that was
    written cannot come under them, the likeliest goes on from there."""
    written = work.written.ids[work.at : work.at + work.ask.horizon].tolist()
    settings = work.settings(work.ask.horizon)
    settings = replace(settings, likeliest=Likeliest(work.k, tuple(written)))
    run = fork(work.engine, work.base, work.at, "", settings)
    rows: list[Row] = []
    for step in run:
        work.watch(0, run, step)
        rows.extend(step.changed)
    made = run.trace
    if work.control.cancelled:
        raise Cancelled("branches")
    work.spent.tokens += len(made) - work.at
    end, finish = work.cut(made, work.at, b"")
    finish = ended_of(made, end, finish)
    own = work.keep(None, work.at, made.cut(end), finish)
    return work.frontier.root(own, read_of(rows[: len(own)]), finish).name


def read_changed(work: Exploring, what: Pending, rows: Sequence[Row], size: int) -> Read:
    """What the changed distribution said along a branch's own tokens. That of the first token is
    its parent's."""
    above = work.frontier.branches[what.parent]
    row, held = what.at - above.at, above.read
    first = Row(what.id, what.logp, held.ids[row], held.choices[row], float(held.entropy[row]))
    return read_of([first, *rows][:size])


def read_of(rows: Sequence[Row]) -> Read:
    """Rows stacked."""
    return Read(
        np.array([r.own for r in rows], dtype=np.float64), np.stack([r.ids for r in rows]),
        np.stack([r.logq for r in rows]), np.array([r.entropy for r in rows], dtype=np.float64),
    )  # fmt: skip


def ended_of(trace: Trace, end: int, finish: str) -> str:
    """Edits may leave no token: that is how a branch ended then."""
    return "stuck" if trace.finish == "stuck" and end == len(trace) else finish


def with_beside(info: ModelInfo, sampler: Settings | None) -> ModelInfo:
    """Edits inside the model keep two memories a token."""
    if sampler is None or not any(e.kind in INNER for e in sampler.edits):
        return info
    return replace(info, state_bytes_per_token=2 * info.state_bytes_per_token)
