"""A run on a server that decodes by itself: its tokens as Steps, its scores as bound columns.

No turn is taken and nothing is batched here: the server does that. What was given is measured
where that is one request, or where a branch put it there; else it stands without numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tokenscope.backends.protocol import (
    Abilities,
    Asked,
    Backend,
    ModelInfo,
    Scorer,
    Top,
    Vocabulary,
    scorer,
    streamer,
)
from tokenscope.control import Control
from tokenscope.decode.observe import Observer
from tokenscope.decode.plan import Plan
from tokenscope.decode.step import Step
from tokenscope.errors import AbilityError
from tokenscope.metrics.measure import measure
from tokenscope.trace.edits import Ban, Bias, Edit
from tokenscope.trace.record import Finish
from tokenscope.trace.tokens import Tokens

PIECE = 64  # given tokens of one Step
FORCED = 32  # tokens that a branch puts in and that are measured, whatever that takes


class Served:
    """One run on a server: iterate for Steps and, at last, the reason for the end."""

    state: Any = None
    beside: Any = None

    def __init__(
        self, backend: Backend, info: ModelInfo, abilities: Abilities, words: Vocabulary,
        plan: Plan, control: Control,
    ) -> None:  # fmt: skip
        self._backend = backend
        self._plan = plan
        self._words = words
        self._control = control
        self._observer = Observer(plan, info, abilities.scores, words)
        self._scorer: Scorer | None = scorer(backend) if abilities.scoring else None
        first = max(plan.have, 1)
        count = len(plan.given) - first
        cost = self._scorer.scoring_cost(count) if self._scorer and count > 0 else ""
        scoring = plan.max_new_tokens == 0
        wanted = scoring or not cost or (plan.shared is not None and count <= FORCED)
        self._measure = self._scorer if wanted else None
        if scoring and self._scorer is None:
            raise AbilityError("this server cannot score a given text")
        self.cost = cost if scoring else ""

    def join_others(self) -> None:
        """Servers batch by themselves."""

    def __iter__(self) -> Iterator[Step | Finish]:
        plan = self._plan
        if plan.have == 0 and len(plan.given):
            yield self._observer.blank()
        if plan.known is not None:
            yield self._observer.known(plan.known)
        yield from self._given()
        if self._control.cancelled:
            yield "cancelled"
        elif plan.max_new_tokens == 0:
            yield "scored"
        else:
            yield from self._decoded()

    def _given(self) -> Iterator[Step]:
        plan, total = self._plan, len(self._plan.given)
        at = max(plan.have, 1)
        if self._measure is not None and at < total:
            ids = [int(i) for i in plan.given.ids]
            told = self._measure.score(
                ids, at, max(plan.alternatives, 1), lambda: self._control.cancelled
            )
            began = time.perf_counter()
            for top in told:
                yield self._prompt(at, at + len(top), top, began)
                at, began = at + len(top), time.perf_counter()
            if self._control.cancelled:
                return
        while at < total:
            end = min(at + PIECE, total)
            yield self._prompt(at, end, _nothing(end - at), None)
            at = end

    def _prompt(self, start: int, end: int, top: Top, began: float | None) -> Step:
        given, total = self._plan.given, len(self._plan.given)
        found = measure(top, given.ids[start:end], self._plan.alternatives)
        spent = float("nan") if began is None else (time.perf_counter() - began) * 1e3
        return self._observer.step(
            start, given.slice(start, end), found, ms=spent / (end - start), progress=(end, total)
        )

    def _decoded(self) -> Iterator[Step | Finish]:
        plan, start = self._plan, len(self._plan.given)
        tail = bytearray()
        asked = Asked(
            plan.given.text, plan.max_new_tokens,
            {**plan.sampler.to_json(), "seed": plan.sampler.seed}, (), plan.alternatives,
            tuple(int(i) for i in plan.given.ids), plan.bias,
        )  # fmt: skip
        stream = streamer(self._backend).stream(asked, lambda: self._control.cancelled)
        began = time.perf_counter()
        try:
            while True:
                try:
                    told = next(stream)
                except StopIteration as end:
                    yield end.value
                    return
                found = measure(told.scores, [told.id], plan.alternatives)
                spent = (time.perf_counter() - began) * 1e3
                label = self._words.label(told.id)
                tokens = Tokens.of([told.id], [told.piece], {} if label is None else {0: label})
                yield self._observer.step(start, tokens, found, ms=spent)
                start, began = start + 1, time.perf_counter()
                if told.id in plan.stop_ids:
                    yield "eos"
                    return
                if self._stops(tokens, tail):
                    yield "stop"
                    return
                if self._control.cancelled:
                    yield "cancelled"
                    return
        finally:
            stream.close()

    def _stops(self, tokens: Tokens, tail: bytearray) -> bool:
        """Stop strings are looked for here, so that they mean the same with every server."""
        if not self._plan.stop:
            return False
        tail += tokens.data
        if any(s in tail for s in self._plan.stop):
            return True
        del tail[: max(0, len(tail) - max(map(len, self._plan.stop)) + 1)]
        return False


def bias_of(edits: Sequence[Edit]) -> dict[int, float]:
    """Edits as what a server can be asked for: nats by id, -inf for a ban.

    Raises AbilityError for any other, and for one that is not in force all along.
    """
    out: dict[int, float] = {}
    for edit in edits:
        if not isinstance(edit, Ban | Bias) or edit.at or edit.until is not None:
            raise AbilityError(
                "this server decodes by itself: only bans and biases of tokens can be asked of it, "
                "in force from the first to the last"
            )
        amount = -math.inf if isinstance(edit, Ban) else edit.amount
        for i in edit.ids:
            out[i] = out.get(i, 0.0) + amount
    return out


def _nothing(n: int) -> Top:
    """n positions of which nothing is told."""
    return Top(np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32), np.ones(n))
