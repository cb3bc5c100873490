"""Exact distances between the distributions of two traces, from the models that made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.backends.protocol import Feed, Full
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError
from tokenscope.explore.divergence import Apart, exact
from tokenscope.runs.compare import checked
from tokenscope.trace.record import Trace

BLOCK = 256  # tokens that are fed, and distributions that are held, at a time


def distances(
    one: tuple[Trace, Engine], two: tuple[Trace, Engine], places: Mapping[int, tuple[int, int]],
    control: Control = QUIET,
) -> dict[int, Apart]:  # fmt: skip
    """``places``: number -> (token of the first, token of the second); each compared by the whole
    distributions that predicted these tokens, float64. Raises AbilityError where a backend tells
    no whole distributions, InputError where a model did not make its trace."""
    order = sorted(places, key=lambda n: places[n])  # both sides rise: cells come in order
    rows = [
        distributions(trace, engine, [places[n][side] for n in order], control)
        for side, (trace, engine) in enumerate((one, two))
    ]
    return {n: exact(p, q) for n, p, q in zip(order, *rows, strict=True)}


def distributions(
    trace: Trace, engine: Engine, tokens: Sequence[int], control: Control = QUIET
) -> Iterator[NDArray[np.float64]]:  # fmt: skip
    """The logprobs float64 (V,) that predicted each of ``tokens`` (rising), one after another.

    Reads the trace block by block; the model's turn is held while a block is read."""
    checked(trace, engine)
    if engine.abilities.scores != "full":
        raise AbilityError("this backend does not tell whole distributions")
    if any(e.kind in _inner() for s in trace.origin.segments for e in s.edits):
        raise AbilityError("a trace with edits inside the model is compared by its alternatives")
    ids = [int(i) for i in trace.ids]
    last = max(tokens, default=0)
    state = engine.stepper.start()
    wanted = iter(tokens)
    now = next(wanted, None)
    for start in range(0, last, BLOCK):
        control.step(start, last, "tokens")
        end = min(last, start + BLOCK)
        with engine.turn, torch.inference_mode():
            scores = engine.stepper.extend(Feed(state, ids[start:end])).scores
            assert isinstance(scores, Full)
            found: list[NDArray[np.float64]] = []
            while now is not None and now <= end:  # a place may be asked for twice
                row = torch.as_tensor(scores.block(now - 1 - start, now - start))[0]
                found.append(torch.log_softmax(row.double(), dim=-1).cpu().numpy())
                now = next(wanted, None)
        yield from found


def _inner() -> tuple[str, ...]:
    from tokenscope.decode.appliers import INNER

    return INNER.names()
