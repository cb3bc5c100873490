"""Attention of one token, from the record where it is exact, else from one bounded forward."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.protocol import Feed
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, InputError
from tokenscope.trace.record import Trace

Source = Literal["full", "top", "recomputed"]
Pick = int | Literal["mean", "max"]
WINDOW = 64  # query rows recomputed at a time


def attention_rows(engine: Engine, trace: Trace, t: int) -> tuple[NDArray[np.float32], Source]:
    """float32 (L, H, t): what the step that chose token ``t`` looked at, and where it is from.

    ``full`` records are used as they are. Otherwise the rows are computed again, exactly, by
    feeding one token after the kept prefix; without an ability for that, a ``top`` record is
    given (unrecorded keys 0). Raises InputError for token 0 and below, AbilityError.
    """
    if not 1 <= t <= len(trace) - 1:
        raise InputError("t", f"must be a token index in 1..{len(trace) - 1}")
    record = trace.attention
    if record is not None and record.form == "full" and record.has(t):
        return record.block(t), "full"
    if _same_model(engine, trace) and engine.abilities.attention:
        return recompute(engine, trace, t - 1, t), "recomputed"
    if record is not None and record.has(t):
        return record.block(t), "top"
    raise AbilityError("attention of this token was not recorded and cannot be computed again")


def attended_by(
    engine: Engine, trace: Trace, t: int, layer: Pick, head: Pick, control: Control = QUIET
) -> tuple[NDArray[np.float32], Source]:
    """float32 (T,): at u, what token u's step gave to token ``t``; NaN where u <= t.

    ``layer`` and ``head``: a number, or ``mean`` or ``max`` over them. Recomputed exactly in
    windows of query rows where the model is at hand, else from the record (NaN where none is).
    """
    total = len(trace)
    if not 0 <= t < total:
        raise InputError("t", f"must be a token index in 0..{total - 1}")
    out = np.full(total, np.nan, dtype=np.float32)
    record = trace.attention
    full = (
        record is not None and record.form == "full" and record.has(t + 1) and record.has(total - 1)
    )
    if record is not None and (full or not _same_model(engine, trace)):
        for u in range(t + 1, total):
            if record.has(u):
                out[u] = _pick(record.block(u)[:, :, t : t + 1], engine, layer, head)[0]
        return out, record.form
    if not engine.abilities.attention:
        raise AbilityError("this backend has no attention rows")
    for start in range(t + 1, total, WINDOW):  # token u's row is that of the query u - 1
        control.step(start, total, "attention")
        end = min(start + WINDOW, total)
        block = recompute_rows(engine, trace, start - 1, end - 1)  # (L, H, n, keys)
        out[start:end] = _pick(block[..., t], engine, layer, head)
    return out, "recomputed"


def recompute(engine: Engine, trace: Trace, query: int, keys: int) -> NDArray[np.float32]:
    """float32 (L, H, keys): the rows of one query position."""
    return recompute_rows(engine, trace, query, query + 1)[:, :, 0, :keys]


def recompute_rows(engine: Engine, trace: Trace, start: int, end: int) -> NDArray[np.float32]:
    """float32 (L, H, end-start, end): rows of the queries ``start..end-1``; later keys are 0."""
    with engine.turn:
        state = engine.prefixes.take(trace.ids, start)
        before = len(state.ids)
        if start > before:
            engine.stepper.extend(Feed(state, trace.ids[before:start].tolist(), scores=0))
        out = engine.stepper.extend(
            Feed(state, trace.ids[start:end].tolist(), rows=end - start, scores=0)
        )
    if engine.abilities.fork == "crop":
        engine.prefixes.put(state)
    return np.stack([np.asarray(r, dtype=np.float32) for r in out.attention])


def reduced(
    values: NDArray[Any], layers: tuple[int, ...], layer: Pick, head: Pick
) -> NDArray[np.float32]:
    """(L, H, ...) reduced to (...) by a choice of layer (a model's number) and head."""
    return _along(_along(values, layer, "layer", layers), head, "head", None)


def _pick(
    values: NDArray[np.float32], engine: Engine, layer: Pick, head: Pick
) -> NDArray[np.float32]:
    """(L, H, n) reduced to (n,) by a choice of layer and head."""
    return _along(_along(values, layer, "layer", engine.info.attention_layers), head, "head", None)


def _along(
    values: NDArray[np.float32], pick: Pick, name: str, layers: tuple[int, ...] | None
) -> NDArray[np.float32]:
    if pick == "mean":
        mean: NDArray[np.float32] = values.mean(axis=0)
        return mean
    if pick == "max":
        largest: NDArray[np.float32] = values.max(axis=0)
        return largest
    if layers is not None:
        if pick not in layers:
            raise InputError(name, f"layers with attention: {list(layers)}")
        of_layer: NDArray[np.float32] = values[layers.index(int(pick))]
        return of_layer
    if not 0 <= int(pick) < len(values):
        raise InputError(name, f"must lie in 0..{len(values) - 1}")
    of_head: NDArray[np.float32] = values[int(pick)]
    return of_head


def _same_model(engine: Engine, trace: Trace) -> bool:
    return trace.origin.model_digest in ("", engine.info.model_digest)
