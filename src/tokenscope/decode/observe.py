"""What was measured, as Steps: columns, alternatives and attention rows of consecutive tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tokenscope.backends.protocol import ModelInfo, RowsOf, ScoreKind, Vocabulary
from tokenscope.decode.plan import Plan
from tokenscope.decode.step import Step
from tokenscope.errors import ModelError
from tokenscope.metrics.attention import reduce_rows, reduce_some
from tokenscope.metrics.measure import Measured, metric_names
from tokenscope.metrics.series import RunningPerplexity
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import F32
from tokenscope.trace.tokens import Tokens


class Observer:
    """Makes the Steps of one run."""

    def __init__(
        self, plan: Plan, info: ModelInfo, kind: ScoreKind, vocabulary: Vocabulary
    ) -> None:
        self._plan = plan
        self._info = info
        self._kind = kind
        self._vocabulary = vocabulary
        self._pieces: dict[int, bytes] = {}  # one table for all steps of the run: it only grows
        self._labels: dict[int, str] = {}
        self._single: dict[int, Tokens] = {}
        self._perplexity = RunningPerplexity()
        shared = plan.shared
        if shared is not None and "surprisal" in shared.columns:
            begin = 0 if plan.running else plan.n_prompt
            self._perplexity.add(shared.column("surprisal")[begin:])

    def tokens(self, ids: Sequence[int]) -> Tokens:
        """Decoded ids with their bytes and labels."""
        if len(ids) == 1 and ids[0] in self._single:
            return self._single[ids[0]]
        words = self._vocabulary
        labels = {n: s for n, s in enumerate(map(words.label, ids)) if s is not None}
        found = Tokens.of(ids, [words.piece(i) for i in ids], labels)
        if len(ids) == 1:
            self._single[ids[0]] = found
        return found

    def blank(self) -> Step:
        """Token 0: nothing comes before it, so nothing is defined on it."""
        plan = self._plan
        nan = np.full(1, np.nan, dtype=np.float32)
        columns = dict.fromkeys([*metric_names(self._kind), "perplexity", "time_ms"], nan)
        columns |= dict.fromkeys(plan.changed, nan)
        k = min(plan.alternatives, self._info.vocab or plan.alternatives)
        alternatives = None
        if k:
            alternatives = Alternatives(
                np.full((1, k), -1, dtype=np.int32), np.full((1, k), np.nan, dtype=np.float32)
            )
        total = len(plan.given)
        return Step(0, plan.given.slice(0, 1), columns, alternatives, None, True, (1, total))

    def known(self, step: Step) -> Step:
        """A step measured elsewhere, with this run's running perplexity."""
        running = self._running(step.start, step.columns["surprisal"])
        return replace(step, columns={**step.columns, "perplexity": running})

    def step(
        self,
        start: int,
        tokens: Tokens,
        found: Measured,
        *,
        ms: float,
        rows: Sequence[Any] = (),
        fed: int = 0,
        drawn: Mapping[str, Sequence[float]] = {},
        progress: tuple[int, int] | None = None,
    ) -> Step:
        """The tokens from ``start`` on. ``rows`` end at the query ``fed - 1``; ``ms``: of each.

        ``drawn``: the columns of what was changed, for tokens that were drawn. ``progress`` marks
        given tokens. Raises ModelError where the scores are no numbers.
        """
        n = len(tokens)
        values: dict[str, F32] = dict(found.columns)
        unknown = np.isnan(values["logprob"])
        if self._kind == "full" and unknown.any():
            bad = np.nonzero(unknown)[0]
            raise ModelError(
                self._info.path or self._info.name,
                f"its scores for token {start + int(bad[0])} are not numbers (NaN or infinite); "
                "the weights are damaged, or the dtype is too narrow for them",
            )
        values["perplexity"] = self._running(start, values["surprisal"])
        values["time_ms"] = np.full(n, ms, dtype=np.float32)
        for name in self._plan.changed:
            values[name] = self._changed(name, start, n, drawn)
        last = "logprob_masked" if self._plan.applied.processors else "logprob_inner"
        if last in drawn:
            values["price"] = np.asarray(drawn[last], dtype=np.float32) - values["logprob"]
        quality = {name: q for name, q in found.quality.items() if q != "exact"}
        if "surprisal" in quality:
            quality["perplexity"] = quality["surprisal"]
        return Step(
            start, tokens, values, self._alternatives(found), self._attention(rows, start, n, fed),
            progress is not None, progress, quality,
        )  # fmt: skip

    def _changed(self, name: str, start: int, n: int, drawn: Mapping[str, Sequence[float]]) -> F32:
        if name in drawn:
            return np.asarray(drawn[name], dtype=np.float32)
        out = np.full(n, np.nan, dtype=np.float32)
        if name in self._plan.drawn:
            held = self._plan.drawn[name][start : start + n]
            out[: len(held)] = held
        return out

    def _alternatives(self, found: Measured) -> Alternatives | None:
        if not self._plan.alternatives:
            return None
        words = self._vocabulary
        known = self._pieces
        for i in found.ids.ravel().tolist():
            if i in known or i < 0:
                continue
            known[i] = words.piece(i)
            label = words.label(i)
            if label is not None:
                self._labels[i] = label
        return Alternatives(found.ids, found.logprobs, self._pieces, self._labels)

    def _attention(self, rows: Sequence[Any], start: int, n: int, fed: int) -> Attention | None:
        """The rows of tokens ``start..start+n-1`` that are to be recorded.

        The row of the query at ``fed - 1`` belongs to token ``fed``; when that token is still to
        be drawn, its row is recorded with it.
        """
        if not len(rows) or self._plan.attention == "none":
            return None
        first_held = fed - (rows.rows if isinstance(rows, RowsOf) else int(rows[0].shape[1])) + 1
        lo = max(start, self._plan.record_from, first_held)
        hi = min(start + n, fed + 1)
        if lo >= hi:
            return None
        a, b = lo - first_held, hi - first_held
        if isinstance(rows, RowsOf) and self._plan.attention == "top":
            return reduce_some(rows, a, b, self._info.attention_layers, lo)
        part = [r[:, a:b, : hi - 1] for r in rows]
        return reduce_rows(part, self._info.attention_layers, lo, self._plan.attention)

    def _running(self, start: int, surprisal: F32) -> F32:
        begin = 0 if self._plan.running else self._plan.n_prompt
        outside = min(max(begin - start, 0), len(surprisal))
        if not outside:
            return self._perplexity.add(surprisal)
        blank = np.full(outside, np.nan, dtype=np.float32)
        return np.concatenate([blank, self._perplexity.add(surprisal[outside:])])
