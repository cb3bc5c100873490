"""How far 16-bit arithmetic moves the numbers: one prefill against cached single steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tokenscope.backends.protocol import Backend, Feed, stepper, vocabulary
from tokenscope.metrics.measure import measure

TEXT = "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
TOKENS = 24
KINDS = ("bfloat16", "float16", "int8")


def column_errors(backend: Backend) -> dict[str, float]:
    """Column -> the largest difference over a probe text, in the column's own unit.

    The same ids are read once as one prefill and once a token at a time; both are what the model
    says, and in 16 bits they differ: that is how far a number can be trusted, and how far a
    scored text and the same text generated may disagree. {} for float32, where it is about 1e-5,
    and for a backend that cannot be fed.
    """
    can = backend.abilities
    if backend.info.dtype not in KINDS or not (can.steps and can.vocabulary):
        return {}
    ids = [int(i) for i in vocabulary(backend).encode(TEXT).ids][: TOKENS + 1]
    feed, targets = ids[:-1], np.array(ids[1:])
    feeder = stepper(backend)
    whole = feeder.extend(Feed(feeder.start(), feed)).scores
    if whole is None or len(targets) == 0:
        return {}
    once = measure(whole, targets, 1).columns
    worst = dict.fromkeys(once, 0.0)
    state = feeder.start()
    for t, token in enumerate(feed):
        step = feeder.extend(Feed(state, [token])).scores
        if step is None:
            continue
        for name, values in measure(step, targets[t : t + 1], 1).columns.items():
            worst[name] = max(worst[name], abs(float(values[0]) - float(once[name][t])))
    return worst


def error_note(errors: Mapping[str, float]) -> tuple[str, ...]:
    """The errors in one sentence for the model's notes; () where there are none."""
    if "logprob" not in errors or "entropy" not in errors:
        return ()
    return (
        f"16 bits: a text scored at once and the same text decoded step by step differ by up to "
        f"{errors['logprob']:.2g} nats of log-probability and {errors['entropy']:.2g} of entropy",
    )
