"""The loop: ids in, Steps out, every signal measured before the sampler changes anything."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from tokenscope.backends.protocol import (
    Abilities,
    Backend,
    Feed,
    Full,
    ModelInfo,
    Scores,
    Stepper,
    Vocabulary,
    stepper,
    vocabulary,
)
from tokenscope.control import Control
from tokenscope.decode.appliers import NONE, Applied
from tokenscope.decode.prefixes import Prefixes
from tokenscope.decode.sampling import Sampler, pick
from tokenscope.decode.step import Step
from tokenscope.decode.turns import Turns
from tokenscope.errors import ModelError
from tokenscope.metrics.attention import reduce_rows
from tokenscope.metrics.measure import measure, metric_names
from tokenscope.metrics.series import RunningPerplexity
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import F32
from tokenscope.trace.record import Finish, Trace
from tokenscope.trace.tokens import Tokens

AttentionForm = Literal["none", "top", "full"]
LOGIT_BYTES = 256 << 20  # logits of one prefill chunk
MAX_CHUNK = 4096
ROW_CHUNK = 64  # queries per chunk whose attention rows are recorded


@dataclass(frozen=True, eq=False)
class Plan:
    """What to decode.

    ``given``: all tokens that stand before the first decoded one. ``shared``: the start of them
    that is measured already. ``n_prompt``: index of the first token that counts as generated
    (tokens that were forced into a branch count). ``running``: whether running perplexity covers
    given tokens too (scoring). ``known``: the token right after ``shared``, measured already: a
    branch by an alternative needs no second look at the distribution that offered it.
    ``applied``: standing edits, made ready.
    """

    given: Tokens
    n_prompt: int
    max_new_tokens: int
    sampler: Sampler
    stop_ids: frozenset[int]
    stop: tuple[bytes, ...] = ()
    alternatives: int = 10
    attention: AttentionForm = "top"
    shared: Trace | None = None
    running: bool = False
    known: Step | None = None
    applied: Applied = NONE

    @property
    def changes(self) -> bool:
        """Whether tokens are drawn from another distribution than the model's own."""
        return self.sampler.changes or bool(self.applied.processors)


class Engine:
    """One loaded model, the states it keeps, and the turns that runs take at it."""

    def __init__(self, backend: Backend, budget: int | None = None) -> None:
        self.backend = backend
        self.prefixes = Prefixes(backend) if budget is None else Prefixes(backend, budget)
        self.turns = Turns()

    @property
    def info(self) -> ModelInfo:
        """What is known of the model."""
        return self.backend.info

    @property
    def abilities(self) -> Abilities:
        """What the backend can do."""
        return self.backend.abilities

    @property
    def vocabulary(self) -> Vocabulary:
        """Text to ids and back. Raises AbilityError where the backend does not tell."""
        return vocabulary(self.backend)

    @property
    def stepper(self) -> Stepper:
        """What is fed. Raises AbilityError where the backend decodes by itself."""
        return stepper(self.backend)

    def decode(self, plan: Plan, control: Control) -> Decoding:
        """Iterate the result for Steps. ``control`` ends it within one step."""
        return Decoding(self, plan, control)


class Decoding:
    """One run: iterate for Steps in order and, at last, the reason for the end.

    ``state``: the model's memory of what was fed; after the end it may be kept and forked.
    """

    def __init__(self, engine: Engine, plan: Plan, control: Control) -> None:
        self.engine = engine
        self.stepper = engine.stepper
        self.vocabulary = engine.vocabulary
        self.plan = plan
        self.control = control
        self.have = len(plan.shared) if plan.shared is not None else 0
        if plan.known is not None:
            self.have += 1
        self.record_from = self._record_from()
        self.perplexity = self._running()
        self.tail = bytearray()
        self.state: Any = None

    def __iter__(self) -> Iterator[Step | Finish]:
        plan, ids = self.plan, self.plan.given.ids
        # 1. the longest state that still lets us see the distribution of the first new token
        with self.engine.turns:
            self.state = self.engine.prefixes.take(ids, max(self.have, 1) - 1, plan.applied.inner)
        if plan.known is not None:
            yield self._with_perplexity(plan.known)
        # 2. the given tokens, in chunks
        scores = rows = None
        for step, scores, rows in self._prefill(ids):  # noqa: B007 (the last ones are used below)
            if step is not None:
                yield step
            if self.control.cancelled:
                yield "cancelled"
                return
        # 3. one token at a time
        end = len(ids) + plan.max_new_tokens
        finish: Finish = "length" if plan.max_new_tokens else "scored"
        t = len(ids)
        elapsed = 0.0
        while t < end and isinstance(scores, Full):
            began = time.perf_counter()
            chosen, sampled = pick(
                plan.sampler,
                torch.as_tensor(scores.logits[-1]),
                self.state.ids,
                t,
                plan.applied.processors,
            )
            step = self._measured(
                t, [chosen], scores.cut(len(scores) - 1, len(scores)), rows, False
            )
            elapsed += (time.perf_counter() - began) * 1e3
            done = self._stops(chosen, step.tokens.data)
            yield self._timed(step, elapsed, sampled)
            t += 1
            if done is not None:
                finish = done
                break
            if self.control.cancelled:
                finish = "cancelled"
                break
            if t >= end or t > (self.engine.info.context or t):
                break
            want = int(plan.attention != "none")
            with self.engine.turns:
                began = time.perf_counter()
                out = self.stepper.extend(Feed(self.state, [chosen], want))
                elapsed = (time.perf_counter() - began) * 1e3
            scores, rows = out.scores, out.attention
        yield finish

    # --- parts ---------------------------------------------------------------------------------
    def _prefill(self, ids: Any) -> Iterator[tuple[Step | None, Scores | None, list[Any] | None]]:
        """Feed the given tokens; a chunk's scores measure the tokens *after* each of its own."""
        total = len(ids)
        position = len(self.state.ids)
        if self.have == 0:
            first = self._blank()
            if first is not None:
                yield first, None, None
                if self.control.cancelled:
                    return
        while position < total:
            end = min(total, position + self._chunk(position))
            if self.engine.abilities.fork == "copy" and position < total - 1:
                # such a memory cannot go back: one is kept where branches will want to start
                end = min(end, total - 1)
            elif self.engine.abilities.fork == "copy" and position == total - 1 > 0:
                with self.engine.turns:
                    self.engine.prefixes.put(
                        self.stepper.fork(self.state, position), key=self.plan.applied.inner
                    )
            began = time.perf_counter()
            # token t has its row in the query at t-1: wanted from max(record_from, position+1) on
            last = end - max(position, self.record_from - 1)
            want = max(last, 0) if self.plan.attention != "none" else 0
            with self.engine.turns:
                out = self.stepper.extend(Feed(self.state, ids[position:end].tolist(), want))
            assert out.scores is not None
            start = max(position + 1, self.have)
            upto = min(end + 1, total)
            step = None
            if upto > start:
                piece = out.scores.cut(start - position - 1, upto - position - 1)
                step = self._measured(
                    start, ids[start:upto].tolist(), piece, out.attention or None, True,
                    (upto, total), end,
                )  # fmt: skip
                elapsed = (time.perf_counter() - began) * 1e3 / max(end - position, 1)
                step = self._timed(step, elapsed, math.nan)
            position = end
            yield step, out.scores, out.attention

    def _chunk(self, position: int) -> int:
        logits = LOGIT_BYTES // (4 * max(self.engine.info.vocab or 1, 1))
        size = max(16, min(MAX_CHUNK, logits))
        if self.plan.attention != "none":  # rows of many queries at once would be large
            size = min(size, max(position, self.record_from - 1) + ROW_CHUNK - position)
        return size

    def _blank(self) -> Step | None:
        """Token 0: nothing comes before it, so nothing is defined on it."""
        if not len(self.plan.given):
            return None
        nan = np.full(1, np.nan, dtype=np.float32)
        names = [*metric_names(self.engine.abilities.scores), "perplexity", "time_ms"]
        k = self.plan.alternatives
        alternatives = None
        if k:
            k = min(k, self.engine.info.vocab or k)
            alternatives = Alternatives(
                np.full((1, k), -1, dtype=np.int32), np.full((1, k), np.nan, dtype=np.float32)
            )
        columns = dict.fromkeys(names, nan)
        if self.plan.changes:
            columns["logprob_sampled"] = nan
        return Step(
            0, self.plan.given.slice(0, 1), columns, alternatives, None, True,
            (1, len(self.plan.given)),
        )  # fmt: skip

    def _measured(
        self,
        start: int,
        ids: Sequence[int],
        scores: Scores,
        rows: list[Any] | None,
        prompt: bool,
        progress: tuple[int, int] | None = None,
        fed: int | None = None,
    ) -> Step:
        """Columns, alternatives and attention of the tokens ``start..start+n-1``.

        ``scores`` (n rows) are those that predict them. ``rows`` end at the query ``fed - 1``.
        """
        found = measure(scores, ids, self.plan.alternatives)
        values: dict[str, F32] = dict(found.columns)
        bad = np.nonzero(np.isnan(values["logprob"]))[0]
        if isinstance(scores, Full) and len(bad):
            raise ModelError(
                self.engine.info.path or self.engine.info.name,
                f"its scores for token {start + int(bad[0])} are not numbers (NaN or infinite); "
                "the weights are damaged, or the dtype is too narrow for them",
            )
        values["perplexity"] = self._perplexity(start, values["surprisal"])
        alternatives = None
        if self.plan.alternatives:
            alternatives = self._alternatives(found.ids, found.logprobs)
        if prompt:
            tokens = self.plan.given.slice(start, start + len(ids))
        else:
            labels = {n: s for n, s in enumerate(map(self.vocabulary.label, ids)) if s is not None}
            tokens = Tokens.of(ids, [self.vocabulary.piece(i) for i in ids], labels)
        attention = self._attention(rows, start, len(ids), fed if fed is not None else start)
        return Step(start, tokens, values, alternatives, attention, prompt, progress)

    def _attention(self, rows: list[Any] | None, start: int, n: int, fed: int) -> Attention | None:
        """The rows of tokens ``start..start+n-1`` that are to be recorded.

        The row of the query at ``fed - 1`` belongs to token ``fed``; when that token is still to
        be drawn, its row is recorded with it.
        """
        if not rows or self.plan.attention == "none":
            return None
        held = rows[0].shape[1]
        first_held = fed - held + 1
        lo, hi = max(start, self.record_from, first_held), min(start + n, fed + 1)
        if lo >= hi:
            return None
        a, b = lo - first_held, hi - first_held
        part = [r[:, a:b, : hi - 1] for r in rows]
        return reduce_rows(part, self.engine.info.attention_layers, lo, self.plan.attention)

    def _alternatives(self, ids: Any, logprobs: Any) -> Alternatives:
        unique = set(ids.ravel().tolist())
        labels = {i: self.vocabulary.label(i) for i in unique}
        return Alternatives(
            ids, logprobs, {i: self.vocabulary.piece(i) for i in unique},
            {i: s for i, s in labels.items() if s is not None},
        )  # fmt: skip

    def _timed(self, step: Step, elapsed: float, sampled: float) -> Step:
        n = len(step.tokens)
        extra = {"time_ms": np.full(n, elapsed, dtype=np.float32)}
        if self.plan.changes:
            extra["logprob_sampled"] = np.full(n, sampled, dtype=np.float32)
        return Step(
            step.start, step.tokens, {**step.columns, **extra}, step.alternatives,
            step.attention, step.prompt, step.progress,
        )  # fmt: skip

    def _stops(self, chosen: int, piece: bytes) -> Finish | None:
        if chosen in self.plan.stop_ids:
            return "eos"
        if not self.plan.stop:
            return None
        self.tail += piece
        if any(s in self.tail for s in self.plan.stop):
            return "stop"
        longest = max(len(s) for s in self.plan.stop)
        del self.tail[: max(0, len(self.tail) - longest + 1)]
        return None

    def _perplexity(self, start: int, surprisal: F32) -> F32:
        begin = 0 if self.plan.running else self.plan.n_prompt
        outside = min(max(begin - start, 0), len(surprisal))
        blank = np.full(outside, np.nan, dtype=np.float32)
        return np.concatenate([blank, self.perplexity.add(surprisal[outside:])])

    def _with_perplexity(self, step: Step) -> Step:
        running = self._perplexity(step.start, step.columns["surprisal"])
        return replace(step, columns={**step.columns, "perplexity": running})

    def _running(self) -> RunningPerplexity:
        running = RunningPerplexity()
        shared = self.plan.shared
        if shared is not None and "surprisal" in shared.columns:
            begin = 0 if self.plan.running else self.plan.n_prompt
            running.add(shared.column("surprisal")[begin:])
        return running

    def _record_from(self) -> int:
        """First token whose attention row is recorded by this run."""
        plan = self.plan
        if plan.attention == "none":
            return 1 << 62
        shared = plan.shared
        if shared is not None and shared.attention is not None:
            held = shared.attention
            if held.form == plan.attention and held.first + held.count == len(shared):
                return self.have
        return max(plan.n_prompt, 1, self.have)
