"""Steps stack into a Trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokenscope.decode.step import Step
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention, join
from tokenscope.trace.columns import Column, Quality
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens


class Collector:
    """Gathers Steps after a shared start; ``trace`` puts together what is there so far."""

    def __init__(
        self, shared: Trace | None, n_prompt: int, origin: Origin, language: str = ""
    ) -> None:
        self._base = shared
        self._n_prompt = n_prompt
        self._origin = origin
        self._language = language
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """One step more; it must begin where the last one ended."""
        self._steps.append(step)

    def trace(self) -> Trace:
        """Everything so far as a trace. Folds the steps, so that asking often stays cheap."""
        folded = fold(self._base, self._steps, self._n_prompt, self._origin, self._language)
        self._base, self._steps = folded, []
        return folded


def fold(
    base: Trace | None, steps: Sequence[Step], n_prompt: int, origin: Origin, language: str
) -> Trace:
    """A trace from a start (or None) and the steps after it; missing values become NaN."""
    parts = [s.tokens for s in steps]
    before = len(base) if base is not None else 0
    tokens = _tokens(([base.tokens] if base is not None else []) + parts)
    total = len(tokens)
    names = dict.fromkeys(base.columns if base is not None else ())
    for step in steps:
        names |= dict.fromkeys(step.columns)
    columns: dict[str, Column] = {}
    for name in names:
        values = np.full(total, np.nan, dtype=np.float32)
        quality: Quality = "exact"
        if base is not None and name in base.columns:
            values[:before] = base.columns[name].values
            quality = base.columns[name].quality
        for step in steps:
            if name in step.columns:
                values[step.start : step.end] = step.columns[name]
        columns[name] = Column(name, values, quality)
    return Trace(
        tokens, min(n_prompt, total), columns, _alternatives(base, steps),
        _attention(base, steps), origin, "", language,
    )  # fmt: skip


def _tokens(parts: list[Tokens]) -> Tokens:
    if not parts:
        return Tokens.of([], [])
    ids = np.concatenate([p.ids for p in parts])
    data = b"".join(p.data for p in parts)
    offsets = [np.zeros(1, dtype=np.int64)]
    labels: dict[int, str] = {}
    size = count = 0
    for part in parts:
        offsets.append(part.offsets[1:] + size)
        labels |= {i + count: s for i, s in part.labels.items()}
        size += len(part.data)
        count += len(part)
    return Tokens(ids, data, np.concatenate(offsets), labels)


def _alternatives(base: Trace | None, steps: Sequence[Step]) -> Alternatives | None:
    parts = [base.alternatives] if base is not None and base.alternatives is not None else []
    parts += [s.alternatives for s in steps if s.alternatives is not None]
    if not parts:
        return None
    pieces: dict[int, bytes] = {}
    labels: dict[int, str] = {}
    for part in parts:
        pieces |= part.pieces
        labels |= part.labels
    return Alternatives(
        np.concatenate([p.ids for p in parts]), np.concatenate([p.logprobs for p in parts]),
        pieces, labels,
    )  # fmt: skip


def _attention(base: Trace | None, steps: Sequence[Step]) -> Attention | None:
    parts = [base.attention] if base is not None and base.attention is not None else []
    fresh = [s.attention for s in steps if s.attention is not None]
    if parts and fresh:
        held, new = parts[0], fresh[0]
        if held.form != new.form or held.first + held.count != new.first:
            parts = []  # another form, or a gap: only what this run recorded is kept
    return join([*parts, *fresh])
