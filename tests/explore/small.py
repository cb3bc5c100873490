"""Models so small that everything they could write is written down: the truths of these tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tokenscope.backends.scripted import END, F32, ScriptedBackend, hashed
from tokenscope.decode.engine import Engine

Text = tuple[int, ...]


def letters(alphabet: str = "abc", heat: float = 0.5) -> Callable[[Sequence[int]], F32]:
    """A script that writes only these letters, or ends; the logits hang on the whole prefix."""
    ids = [*alphabet.encode(), END]

    def script(seen: Sequence[int]) -> F32:
        logits = np.full(257, -1e9, dtype=np.float32)
        logits[ids] = hashed(seen)[ids] * np.float32(heat)
        return logits

    return script


def engine(alphabet: str = "abc", heat: float = 0.5) -> Engine:
    return Engine(ScriptedBackend(letters(alphabet, heat)))


def every_text(
    script: Callable[[Sequence[int]], F32], prompt: Sequence[int], horizon: int
) -> Iterator[tuple[Text, float]]:
    """(text, probability) of all that can come within ``horizon`` tokens, in float64, by a walk
    over the script alone."""

    def walk(done: Text, p: float) -> Iterator[tuple[Text, float]]:
        if len(done) == horizon or (done and done[-1] == END):
            yield done, p
            return
        z = script([*prompt, *done]).astype(np.float64)
        q = np.exp(z - z.max())
        q /= q.sum()
        for token in np.nonzero(q > 0)[0]:
            yield from walk((*done, int(token)), p * float(q[token]))

    yield from walk((), 1.0)


def starts(truth: dict[Text, float], prefix: Text) -> float:
    """The probability that a text begins so."""
    return math.fsum(p for text, p in truth.items() if text[: len(prefix)] == prefix)
