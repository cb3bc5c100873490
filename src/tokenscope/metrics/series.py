"""Signals that need what came before: running figures over a sequence."""

from __future__ import annotations

import math

import numpy as np

from tokenscope.trace.columns import COLUMNS, F32, ColumnSpec

COLUMNS.add("perplexity", ColumnSpec(
    "perplexity", "Running perplexity", "", "exp(mean of s over the generated part so far)",
    "Jelinek 1977", lo=1.0, hi=20.0, better="low", scale="log"))  # fmt: skip
COLUMNS.add("time_ms", ColumnSpec(
    "time_ms", "Time", "ms", "wall time of the step that made the token", "measured",
    lo=0.0, hi=None, better="none"))  # fmt: skip
COLUMNS.add("logprob_sampled", ColumnSpec(
    "logprob_sampled", "Log-probability, as sampled", "nats",
    "ln q(x_t): after penalties, temperature and truncation", "definition",
    lo=-12.0, hi=0.0, better="high"))  # fmt: skip

COLUMNS.add("logprob_masked", ColumnSpec(
    "logprob_masked", "Log-probability, after masks and biases", "nats",
    "ln p'(x_t): the model's scores (after edits inside) with masks and biases, renormalised",
    "Park 2024, arXiv 2405.21047", lo=-12.0, hi=0.0, better="high"))  # fmt: skip
COLUMNS.add("logprob_inner", ColumnSpec(
    "logprob_inner", "Log-probability, after edits inside", "nats",
    "ln p~(x_t): the model with its inside changed", "definition",
    lo=-12.0, hi=0.0, better="high"))  # fmt: skip
COLUMNS.add("price", ColumnSpec(
    "price", "Price of the edits", "nats",
    "ln p'(x_t) - ln p(x_t); of a mask alone -ln Z, Z the mass that it leaves",
    "a sample of KL(edited || own)", lo=0.0, hi=6.0, better="low"))  # fmt: skip

# what is known of a token beyond the model's own figures, where something was changed
CHANGED = ("logprob_inner", "logprob_masked", "logprob_sampled", "price")


class RunningPerplexity:
    """exp of the mean surprisal so far (Jelinek 1977); NaN until the first value."""

    __slots__ = ("count", "total")

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total = total
        self.count = count

    def add(self, surprisal: F32) -> F32:
        """float32 (n,) in nats in, running perplexity float32 (n,) out; NaN counts for nothing."""
        if len(surprisal) == 1:
            return self._add_one(float(surprisal[0]))
        values = np.asarray(surprisal, dtype=np.float64)
        known = np.isfinite(values)
        totals = self.total + np.cumsum(np.where(known, values, 0.0))
        counts = self.count + np.cumsum(known)
        if len(values):
            self.total, self.count = float(totals[-1]), int(counts[-1])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            out: F32 = np.exp(np.minimum(totals / counts, 700.0)).astype(np.float32)
        out[counts == 0] = np.nan
        return out

    def _add_one(self, value: float) -> F32:
        """The same of one value, which is what a step brings: arrays would cost more than it."""
        if math.isfinite(value):
            self.total += value
            self.count += 1
        mean = self.total / self.count if self.count else math.nan
        return np.array([math.exp(min(mean, 700.0))], dtype=np.float32)
