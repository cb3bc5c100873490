"""What faces call for the attention explorer: all heads small, one head large, search, rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from weakref import WeakKeyDictionary

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
from tokenscope.explain.repeats import DRAWS, LENGTH, SCORES, Repeats, repeats
from tokenscope.runs.explain import internals_of
from tokenscope.runs.prompts import start_ids
from tokenscope.trace.record import Trace

Source = Literal["full", "recomputed"]


def survey(
    engine: Engine, trace: Trace, size: int = 48, control: Control = QUIET, limit: int = LIMIT
) -> Survey:
    """Statistics and small pictures of every head over the whole trace, by one forward.

    Beside them, as further statistics, the scores on repeated random tokens.
    """
    internals = internals_of(engine)
    _same(engine, trace)
    seen = heads.survey(internals, trace.ids.tolist(), names_of(trace), size, control, limit)
    return joined(seen, repeated(engine, control=control))


def joined(seen: Survey, scores: Repeats) -> Survey:
    """A survey with the scores on repeated random tokens among its statistics."""
    queries = scores.length * len(scores.gain)
    return replace(
        seen, statistics={**seen.statistics, **{n: scores.mean(n) for n in scores.scores}},
        counts={**seen.counts, **dict.fromkeys(scores.scores, queries)},
    )  # fmt: skip


def layers(engine: Engine) -> tuple[LayerLayout, ...]:
    """What attention each layer has, those without any among them."""
    return attention.layout(internals_of(engine))


def window(
    engine: Engine, trace: Trace, layer: int, head: HeadChoice,
    queries: tuple[int, int] | None = None, keys: tuple[int, int] | None = None,
    weighting: Weighting = "weights", limit: int = LIMIT, control: Control = QUIET,
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
    made = attention.window(
        internals, trace.ids.tolist(), layer, head, (q0, q1), (k0, k1), weighting, limit, control
    )
    return made, "recomputed"


def rollout(engine: Engine, trace: Trace, control: Control = QUIET, limit: int = LIMIT) -> F32:
    """float32 (T, T): attention rollout to the last layer (Abnar & Zuidema 2020)."""
    internals = internals_of(engine)
    _same(engine, trace)
    return attention.rollout(internals, trace.ids.tolist(), control, limit)


def find(
    engine: Engine, trace: Trace, pattern: str, query: int | None = None,
    keys: Sequence[int] = (), top: int = 12, control: Control = QUIET,
) -> list[Found]:  # fmt: skip
    """Heads that show a pattern; ``edge`` takes a query and keys.

    Raises UnknownName, InputError.
    """
    internals = internals_of(engine)
    _same(engine, trace)
    if pattern == "edge":
        if query is None:
            raise InputError("query", "is needed for the pattern edge")
        return heads.find_edge(internals, trace.ids.tolist(), query, keys, top, control)
    heads.PATTERNS.get(pattern)
    if pattern in SCORES:
        scores = repeated(engine, control=control)
        return heads.ranked(scores.mean(pattern), scores.layers, top)
    seen = heads.survey(internals, trace.ids.tolist(), names_of(trace), 1, control)
    return heads.find_heads(seen, pattern, top)


def _same(engine: Engine, trace: Trace) -> None:
    if len(trace) == 0:
        raise InputError("trace", "is empty")
    if trace.origin.model_digest not in ("", engine.info.model_digest):
        raise InputError("trace", "was made by another model")


_REPEATS: WeakKeyDictionary[Engine, Repeats] = WeakKeyDictionary()


def repeated(
    engine: Engine, length: int = LENGTH, draws: int = DRAWS, seed: int = 0,
    control: Control = QUIET,
) -> Repeats:  # fmt: skip
    """Scores of every head on random tokens said twice (Olsson 2022); no text is needed.

    The default ones are made once per model. Raises InputError, AbilityError.
    """
    usual = (length, draws, seed) == (LENGTH, DRAWS, 0)
    found = _REPEATS.get(engine) if usual else None
    if found is None:
        size = internals_of(engine).embedding_weight.shape[0]
        vocab = min(int(engine.info.vocab or size), int(size))
        words = engine.vocabulary
        pool = [i for i in range(vocab) if words.label(i) is None and words.piece(i)]
        found = repeats(internals_of(engine), pool, start_ids(engine), length, draws, seed, control)
        if usual:
            _REPEATS[engine] = found
    return found
