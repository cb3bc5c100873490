"""What faces call about structure: the tree, roll-ups, attention between nodes, viability."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from tokenscope.code.align import Alignment, align
from tokenscope.code.attend import NodeMatrix, Normalise, node_matrix
from tokenscope.code.follow import Follower
from tokenscope.code.prefix_tree import Verdict
from tokenscope.code.viable import Judged, judge_alternatives, viable_columns
from tokenscope.code.views import language_of, structure
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, InputError
from tokenscope.runs.attend import Pick, recompute_rows, reduced, window
from tokenscope.trace.record import Trace

FOLLOWED = 8  # running branches whose structure is kept up to date


@dataclass(frozen=True)
class Followed:
    """The structure of a branch as of now. ``cost_ms``: what this update took."""

    language: str
    alignment: Alignment
    cost_ms: float


class Followers:
    """One follower per running branch, so that each look at it parses only what is new."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, str], tuple[Follower, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, node: str, trace: Trace, language: str | None = None) -> Followed:
        """The structure of what the branch holds by now. Raises UnknownName."""
        begin = perf_counter()
        name = language_of(trace, language)
        data = trace.tokens.data
        with self._lock:
            follower, seen = self._held.pop((node, name), (None, b""))
            if follower is None or not data.startswith(seen):
                follower, seen = Follower(name), b""
            follower.append(data[len(seen) :])
            regions = follower.update()
            self._held[node, name] = (follower, data)
            while len(self._held) > FOLLOWED:
                self._held.popitem(last=False)
        cells = align(trace.tokens, regions)
        return Followed(name, cells, 1e3 * (perf_counter() - begin))


def attention_between(
    engine: Engine | None,
    trace: Trace,
    by: str = "statement",
    *,
    layer: Pick = "mean",
    head: Pick = "mean",
    drop_sink: bool = True,
    normalise: Normalise = "mass",
    part: str = "all",
    language: str | None = None,
    control: Control = QUIET,
) -> tuple[NodeMatrix, str]:
    """The node x node matrix of one layer and head, or of the mean or maximum over them.

    Exact rows (``full`` or ``recomputed``) where they can be had, else the ``top`` record with its
    unrecorded mass. Raises InputError, UnknownName, CapacityError, AbilityError.
    """
    cells = structure(trace, language)
    rows, source, have, unrecorded = _rows(engine, trace, layer, head, control)
    if part not in ("all", "generated", "prompt"):
        raise InputError("part", "must be 'all', 'generated' or 'prompt'")
    start = max(have.start, trace.n_prompt) if part == "generated" else have.start
    stop = min(have.stop, trace.n_prompt) if part == "prompt" else have.stop
    matrix = node_matrix(
        cells, rows, range(start, max(start, stop)), by, drop_sink=drop_sink,
        normalise=normalise, unrecorded=unrecorded,
    )  # fmt: skip
    return matrix, source


def _rows(
    engine: Engine | None, trace: Trace, layer: Pick, head: Pick, control: Control
) -> tuple[
    Callable[[int], NDArray[np.float32]], str, range, Callable[[int], float] | None
]:  # fmt: skip
    """Rows by token, where they are from, of which tokens, and what ``top`` left out."""
    record, total = trace.attention, len(trace)
    digest = "" if engine is None else engine.info.model_digest
    same = engine is not None and trace.origin.model_digest in ("", digest)
    if record is not None and record.form == "full" and record.has(1) and record.has(total - 1):
        return (
            lambda t: reduced(record.block(t), record.layers, layer, head), "full",
            range(1, total), None,
        )  # fmt: skip
    if engine is not None and same and engine.abilities.attention:
        layers = engine.info.attention_layers
        held: dict[int, NDArray[np.float32]] = {}

        def row(t: int) -> NDArray[np.float32]:
            if t not in held:  # the queries come in order: one window of rows at a time
                held.clear()
                control.step(t, total, "attention")
                end = min(t + window(engine, total), total)
                rows = reduced(recompute_rows(engine, trace, t - 1, end - 1), layers, layer, head)
                held.update({u: rows[u - t, :u] for u in range(t, end)})
            return held[t]

        return row, "recomputed", range(1, total), None
    if record is not None:

        def missing(t: int) -> float:
            rest = record.only(t).rest
            if rest is None:
                return 0.0
            return float(reduced(np.asarray(rest[0]), record.layers, layer, head))

        return (
            lambda t: reduced(record.block(t), record.layers, layer, head), record.form,
            range(record.first, record.first + record.count), missing,
        )  # fmt: skip
    raise AbilityError("attention was not recorded and cannot be computed again")


def viability(
    trace: Trace, t: int | None = None, *, language: str | None = None, budget_s: float = 5.0,
    control: Control = QUIET,
) -> Judged:  # fmt: skip
    """Verdicts on the alternatives of token ``t``, or of every generated token in order until
    ``budget_s`` is spent (the tokens after that are not judged). Raises InputError, AbilityError.
    """
    table = trace.alternatives
    if table is None:
        raise AbilityError("no alternatives were recorded")
    if t is not None and not 0 <= t < len(trace):
        raise InputError("t", f"must lie in 0..{len(trace) - 1}")
    name = language_of(trace, language)
    first = t if t is not None else trace.n_prompt if trace.n_prompt < len(trace) else 1
    last = t + 1 if t is not None else len(trace)
    pieces = trace.tokens.pieces()[:last]
    candidates: list[list[bytes | None]] = [[] for _ in range(first)] + [
        [None if i < 0 or i in table.labels else table.pieces.get(i) for i in table.ids[n].tolist()]
        for n in range(first, last)
    ]
    return judge_alternatives(pieces, candidates, name, first, budget_s, control.step)


def with_viability(trace: Trace, judged: Judged) -> Trace:
    """The trace with the columns ``viable_mass`` and ``viable_entropy``."""
    if trace.alternatives is None:
        raise AbilityError("no alternatives were recorded")
    for column in viable_columns(judged, trace.alternatives.logprobs):
        trace = trace.with_column(column.name, column.values, column.quality)
    return trace


__all__ = [
    "Followed", "Followers", "Judged", "NodeMatrix", "Verdict", "attention_between", "viability",
    "with_viability",
]  # fmt: skip
