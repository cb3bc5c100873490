"""The few figures that sum a run up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenscope.trace.record import Trace


def summarise(trace: Trace) -> dict[str, float]:
    """Figures of the generated tokens; of all tokens when none were generated.

    ``tokens``, ``prompt_tokens``, ``generated_tokens``; ``mean_surprisal`` (nats),
    ``perplexity`` = exp(mean surprisal) (Jelinek 1977), ``bits_per_byte``, ``mean_entropy``
    (nats), ``joint_logprob`` (nats), ``tokens_per_s`` from the median step (NaN where none took
    time).

    The end token is a choice of the model, so it counts in perplexity and the joint logprob. It
    writes no byte, so bits per byte takes the nats of the tokens that do (as for a text whose end
    is known; Gao 2020, The Pile).
    """
    start = trace.n_prompt if trace.n_prompt < len(trace) else 0
    n = len(trace)
    out: dict[str, float] = {
        "tokens": float(n),
        "prompt_tokens": float(trace.n_prompt),
        "generated_tokens": float(n - trace.n_prompt),
    }
    surprisal = _part(trace, "surprisal", start)
    entropy = _part(trace, "entropy", start)
    times = _part(trace, "time_ms", trace.n_prompt)
    mean = float(np.mean(surprisal)) if len(surprisal) else math.nan
    out["mean_surprisal"] = mean
    out["perplexity"] = math.exp(min(mean, 700.0)) if not math.isnan(mean) else math.nan
    total = float(np.sum(surprisal)) if len(surprisal) else math.nan
    out["bits_per_byte"] = _bits_per_byte(trace, start)
    out["joint_logprob"] = -total
    out["mean_entropy"] = float(np.mean(entropy)) if len(entropy) else math.nan
    times = times[times > 0]  # one that a branch has from its parent's numbers took none
    out["tokens_per_s"] = 1000.0 / float(np.median(times)) if len(times) else math.nan
    return out


def _bits_per_byte(trace: Trace, start: int) -> float:
    if "surprisal" not in trace.columns:
        return math.nan
    surprisal = trace.column("surprisal")[start:].astype(np.float64)
    widths = np.diff(trace.tokens.offsets)[start:]
    counted = np.isfinite(surprisal) & (widths > 0)
    size = int(widths[counted].sum())
    return float(surprisal[counted].sum()) / math.log(2) / size if size else math.nan


def _part(trace: Trace, name: str, start: int) -> NDArray[np.float64]:
    column = trace.columns.get(name)
    if column is None:
        return np.zeros(0)
    values = column.values[start:].astype(np.float64)
    return values[np.isfinite(values)]
