"""Attention of one token, from the record where it is exact, else computed again, bounded.

What is missing of the prefix is fed in chunks, rows come in windows of ``ROW_BYTES``, no logits
are made, other runs get their turns in between, and a :class:`Control` can end it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.backends.protocol import Feed
from tokenscope.control import QUIET, Cancelled, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.trace.record import Trace

Source = Literal["full", "top", "recomputed"]
Pick = int | Literal["mean", "max"]
CHUNK = 512  # tokens of the prefix fed at a time
ROW_BYTES = 64 << 20  # attention rows held at a time


def attention_rows(
    engine: Engine | None, trace: Trace, t: int, control: Control = QUIET
) -> tuple[NDArray[np.float32], Source]:
    """float32 (L, H, t): what the step that chose token ``t`` looked at, and where it is from.

    ``full`` records are used as they are. Otherwise the rows are computed again, exactly, by
    feeding one token after the kept prefix; without an ability for that, a ``top`` record is
    given (unrecorded keys 0), and so it is without an engine. Raises InputError for token 0 and
    below, AbilityError, Cancelled.
    """
    if not 1 <= t <= len(trace) - 1:
        raise InputError("t", f"must be a token index in 1..{len(trace) - 1}")
    record = trace.attention
    if record is not None and record.form == "full" and record.has(t):
        return record.block(t), "full"
    if engine is not None and _same_model(engine, trace) and engine.abilities.attention:
        return recompute_rows(engine, trace, t - 1, t, control)[:, :, 0], "recomputed"
    if record is not None and record.has(t):
        return record.block(t), "top"
    raise AbilityError(f"attention of this token was not recorded and {_why(engine)}")


def attended_by(
    engine: Engine | None, trace: Trace, t: int, layer: Pick, head: Pick, control: Control = QUIET
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
    if record is not None and (full or engine is None or not _same_model(engine, trace)):
        for u in range(t + 1, total):
            if record.has(u):
                block = record.block(u)[:, :, t : t + 1]
                out[u] = reduced(block, record.layers, layer, head)[0]
        return out, record.form
    if engine is None:
        raise AbilityError(f"attention was not recorded and {_why(engine)}")
    if not engine.abilities.attention:
        raise AbilityError("this backend has no attention rows")
    for start, block in row_windows(engine, trace, t, total - 1, control):
        end = start + block.shape[2]  # token u's row is that of the query u - 1
        layers = engine.info.attention_layers
        out[start + 1 : end + 1] = reduced(block[..., t], layers, layer, head)
    return out, "recomputed"


def recompute_rows(
    engine: Engine, trace: Trace, start: int, end: int, control: Control = QUIET
) -> NDArray[np.float32]:
    """float32 (L, H, end-start, end): rows of the queries ``start..end-1``; later keys are 0.

    Raises CapacityError when these are more than ``ROW_BYTES``; ask for windows then.
    """
    most = window(engine, end)
    if end - start > most and end - start > 1:
        raise CapacityError(f"attention rows of {end - start} tokens at once", fits=most)
    return next(row_windows(engine, trace, start, end, control))[1]


def window(engine: Engine, keys: int) -> int:
    """How many rows over ``keys`` keys are computed at a time: at least 1."""
    per = 4 * max(len(engine.info.attention_layers), 1) * (engine.info.heads or 1) * max(keys, 1)
    return max(1, min(CHUNK, ROW_BYTES // per))


def row_windows(
    engine: Engine, trace: Trace, start: int, end: int, control: Control = QUIET
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Rows of the queries ``start..end-1`` in order: (s, float32 (L, H, n, s+n)) at a time."""
    ids = trace.ids
    with engine.turn:
        state = engine.prefixes.take(ids, start)
    crop = engine.abilities.fork == "crop"
    whole = True  # False once a feed has failed: such a memory is not kept
    try:
        while len(state.ids) < start:
            # a memory that cannot go back is fed from the start in one go, else token by token
            stop = min(len(state.ids) + CHUNK, start) if crop else start
            control.step(len(state.ids), end, "attention")
            with engine.turn:
                engine.stepper.extend(Feed(state, ids[len(state.ids) : stop].tolist(), scores=0))
        size = window(engine, end)
        for at in range(start, end, size):
            control.step(at, end, "attention")
            stop = min(at + size, end)
            with engine.turn:
                feed = Feed(state, ids[at:stop].tolist(), rows=stop - at, scores=0)
                out = engine.stepper.extend(feed)
            yield at, np.stack([torch.as_tensor(r).cpu().numpy() for r in out.attention])
    except Cancelled:
        raise
    except Exception:
        whole = False
        raise
    finally:
        if whole and crop and len(state.ids):
            engine.prefixes.put(state)


def reduced(
    values: NDArray[Any], layers: tuple[int, ...], layer: Pick, head: Pick
) -> NDArray[np.float32]:
    """(L, H, ...) reduced to (...) by a choice of layer (a model's number) and head."""
    return _along(_along(values, layer, "layer", layers), head, "head", None)


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


def _why(engine: Engine | None) -> str:
    if engine is None:
        return "the model that made it is not loaded"
    return "cannot be computed again"
