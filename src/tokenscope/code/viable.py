"""Which alternatives could go on to parse: a verdict each, and two columns.

With p_i the probabilities of the K alternatives and V the viable ones among them

    viable_mass     Z = sum_{i in V} p_i
    viable_entropy  H_V = - sum_{i in V} (p_i / Z) ln (p_i / Z)      nats

Both see only K alternatives. Z is a lower bound of the mass of all viable continuations; an
``unknown`` alternative counts as not viable there, so the bound holds. Constrained decoding would
renormalise by Z and distort the distribution (Park 2024, arXiv 2405.21047): Z is always shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from tokenscope.code.languages import LANGUAGES
from tokenscope.code.prefix_python import PythonPrefix, viable
from tokenscope.code.prefix_tree import Verdict, verdict
from tokenscope.trace.columns import COLUMNS, Column, ColumnSpec

VERDICTS: tuple[Verdict, ...] = ("unknown", "not", "viable")
UNKNOWN, NOT, VIABLE = 0, 1, 2

for _spec in (
    ColumnSpec(
        "viable_mass", "viable mass", "", "Z = sum of p over the alternatives that can go on to"
        " parse", "Park 2024, arXiv 2405.21047", lo=0.0, hi=1.0, better="high",
    ),
    ColumnSpec(
        "viable_entropy", "entropy among viable", "nats",
        "-sum (p/Z) ln (p/Z) over the viable alternatives", "Shannon 1948, renormalised",
        better="low",
    ),
):  # fmt: skip
    COLUMNS.add(_spec.name, _spec)


def judge(prefix: bytes, language: str) -> Verdict:
    """One verdict. "unknown" for text and Markdown, which nothing can break."""
    if language == "python":
        answer = viable(prefix)
        return "unknown" if answer is None else "viable" if answer else "not"
    if language not in LANGUAGES:
        return "unknown"
    return verdict(prefix, language)


@dataclass(frozen=True, eq=False)
class Judged:
    """``verdicts`` uint8 (n, K): 0 unknown, 1 not, 2 viable, of the alternatives of the tokens
    ``first..first+n-1``."""

    first: int
    verdicts: NDArray[np.uint8]

    def row(self, t: int) -> list[Verdict]:
        """The verdicts on the alternatives of token ``t``."""
        return [VERDICTS[v] for v in self.verdicts[t - self.first].tolist()]


def judge_alternatives(
    pieces: Sequence[bytes], candidates: Sequence[Sequence[bytes | None]], language: str,
    first: int = 0, budget_s: float = float("inf"),
    step: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Judged:  # fmt: skip
    """Judge the candidates of every token from ``first`` on.

    ``pieces``: the bytes of all T tokens; ``candidates[t]``: the bytes of the alternatives of token
    ``t``, None for one that is absent or special (its verdict is unknown). Python costs 0.3-3 ms a
    candidate, other languages a parse or a few (up to 0.2 s). When ``budget_s`` is spent the
    tokens that are left are not judged: fewer rows come back. ``step(done, total, what)`` is told
    before each candidate, and may raise to stop.
    """
    begin = monotonic()
    width = max((len(c) for c in candidates), default=0)
    out = np.zeros((max(len(pieces) - first, 0), width), dtype=np.uint8)
    python = PythonPrefix() if language == "python" else None
    prefix = bytearray()
    for t, piece in enumerate(pieces):
        if t >= first:
            if monotonic() - begin > budget_s:
                return Judged(first, out[: t - first])
            for k, candidate in enumerate(candidates[t]):
                if candidate is None:
                    continue
                step(t - first, len(out), "viability")
                if python is not None:
                    answer = python.viable(candidate)
                    out[t - first, k] = UNKNOWN if answer is None else VIABLE if answer else NOT
                else:
                    out[t - first, k] = VERDICTS.index(judge(bytes(prefix + candidate), language))
        if python is not None:
            python.append(piece)
        prefix += piece
    return Judged(first, out)


def viable_columns(judged: Judged, logprobs: NDArray[np.float32]) -> tuple[Column, Column]:
    """``viable_mass`` and ``viable_entropy``, float32 (T,), NaN where nothing was judged.

    ``logprobs`` float32 (T, K) in nats. Quality is ``bound``: tokens beyond the K are not seen.
    """
    tokens = len(logprobs)
    mass = np.full(tokens, np.nan, dtype=np.float32)
    entropy = np.full(tokens, np.nan, dtype=np.float32)
    n = len(judged.verdicts)
    rows = slice(judged.first, judged.first + n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.exp(logprobs[rows].astype(np.float64))
        p = np.where((judged.verdicts == VIABLE) & np.isfinite(p), p, 0.0)
        z = p.sum(axis=1)
        q = p / z[:, None]
        h = -np.where(q > 0, q * np.log(q), 0.0).sum(axis=1)
    # a row without any candidate was not judged; one without a viable candidate has Z = 0
    seen = np.isfinite(logprobs[rows]).any(axis=1)
    mass[rows] = np.where(seen, z, np.nan)
    entropy[rows] = np.where(seen & (z > 0), h, np.nan)
    return Column("viable_mass", mass, "bound"), Column("viable_entropy", entropy, "bound")
