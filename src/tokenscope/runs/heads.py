"""What faces call for the attention explorer: all heads small, one head large, search, rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explain import attention, heads
from tokenscope.explain.attention import HeadChoice, LayerLayout, Weighting
from tokenscope.explain.gradients import F32
from tokenscope.explain.heads import Found, Survey
from tokenscope.explain.memory import LIMIT
from tokenscope.explain.places import names_of
from tokenscope.runs.explain import internals_of
from tokenscope.trace.record import Trace

Source = Literal["full", "recomputed"]


def survey(
    engine: Engine, trace: Trace, size: int = 48, control: Control = QUIET, limit: int = LIMIT
) -> Survey:
    """Statistics and small pictures of every head over the whole trace, by one forward."""
    internals = internals_of(engine)
    _same(engine, trace)
    return heads.survey(internals, trace.ids.tolist(), names_of(trace), size, control, limit)


def layers(engine: Engine) -> tuple[LayerLayout, ...]:
    """What attention each layer has, those without any among them."""
    return attention.layout(internals_of(engine))


def window(
    engine: Engine, trace: Trace, layer: int, head: HeadChoice,
    queries: tuple[int, int] | None = None, keys: tuple[int, int] | None = None,
    weighting: Weighting = "weights", limit: int = LIMIT,
) -> tuple[F32, Source]:  # fmt: skip
    """float32 (queries, keys) of one head, from a ``full`` record or by one bounded forward."""
    internals = internals_of(engine)
    attention.need_layer(internals, layer, head)
    q0, q1 = queries or (0, len(trace))
    k0, k1 = keys or (0, len(trace))
    record = trace.attention
    if (
        record is not None and record.form == "full" and weighting == "weights"
        and 0 <= q0 < q1 <= len(trace) and 0 <= k0 < k1 <= len(trace)
        and record.has(q0 + 1) and record.has(q1)
    ):  # fmt: skip
        out = np.zeros((q1 - q0, k1 - k0), dtype=np.float32)
        index = record.layers.index(layer)
        for q in range(q0, q1):  # the row of query q is that of token q + 1
            a = record.block(q + 1)[index]  # (H, q + 1)
            row = a.mean(0) if head == "mean" else a.max(0) if head == "max" else a[head]
            part = row[k0 : min(k1, len(row))]
            out[q - q0, : len(part)] = part
        return out, "full"
    _same(engine, trace)
    ids = trace.ids.tolist()
    return attention.window(internals, ids, layer, head, (q0, q1), (k0, k1), weighting, limit), \
        "recomputed"  # fmt: skip


def rollout(engine: Engine, trace: Trace, control: Control = QUIET, limit: int = LIMIT) -> F32:
    """float32 (T, T): attention rollout to the last layer (Abnar & Zuidema 2020)."""
    internals = internals_of(engine)
    _same(engine, trace)
    return attention.rollout(internals, trace.ids.tolist(), control, limit)


def find(
    engine: Engine, trace: Trace, pattern: str, query: int | None = None,
    keys: Sequence[int] = (), top: int = 12,
) -> list[Found]:  # fmt: skip
    """Heads that show a pattern; ``edge`` takes a query and keys.

    Raises UnknownName, InputError.
    """
    internals = internals_of(engine)
    _same(engine, trace)
    if pattern == "edge":
        if query is None:
            raise InputError("query", "is needed for the pattern edge")
        return heads.find_edge(internals, trace.ids.tolist(), query, keys, top)
    heads.PATTERNS.get(pattern)
    seen = heads.survey(internals, trace.ids.tolist(), names_of(trace), size=1)
    return heads.find_heads(seen, pattern, top)


def _same(engine: Engine, trace: Trace) -> None:
    if len(trace) == 0:
        raise InputError("trace", "is empty")
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        raise InputError("trace", "was made by another model")
