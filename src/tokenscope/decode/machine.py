"""Decoding as a state machine that touches no model: it asks, is answered, and hands out Steps.

``Machine.events()`` is a generator. It yields a request and is sent the answer:

==========  ==================================================  ======================
Take        a memory that has read at most so many of the ids   the state
Feed        read these ids (``backends.protocol.Feed``)         Answer; None: cancelled
Draw        draw a token from each of these distributions       ids, and ln q of each
Weigh       reduce these scores for the tokens that came        Measured
Keep        keep a copy of the memory as it is now              None
Back        forget the last tokens of the last Feed             None
Step, str   a result, and at last why it ended                  None
==========  ==================================================  ======================

Whoever drives it decides when, on which thread and together with whom (``decode.scheduler``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tokenscope.backends.protocol import (
    Abilities,
    Extension,
    Feed,
    Full,
    ModelInfo,
    Scores,
    Top,
    Vocabulary,
)
from tokenscope.decode.changed import Row, look
from tokenscope.decode.lookup import Cost, Speculation
from tokenscope.decode.observe import Observer
from tokenscope.decode.pace import Pace
from tokenscope.decode.plan import Plan
from tokenscope.decode.sampling import Sampler, after_edits, pick
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.trace.record import Finish

ROW_BYTES = 64 << 20  # attention rows of one chunk
LOGIT_BYTES = 256 << 20  # scores of one chunk
UNCHANGED = dict.fromkeys(("logprob_sampled", "logprob_masked", "logprob_inner"), math.nan)
KEPT_EVERY = 64  # tokens between kept copies of a memory that cannot go back


@dataclass(frozen=True, slots=True)
class Take:
    """A memory that has read at most ``limit`` of ``ids``, for the machine's own, filled under the
    edits ``inner``; of the first ``clean`` tokens, before any of these was in force, a memory of
    the model as it is will do."""

    ids: Any
    limit: int
    inner: tuple[Any, ...] = ()
    clean: int = 0


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep a copy of ``state``: this kind of memory cannot go back, and branches start here."""

    state: Any


@dataclass(frozen=True, slots=True)
class Back:
    """Take the last ``count`` ids of the last Feed out of ``state`` again."""

    state: Any
    count: int


@dataclass(frozen=True, slots=True)
class Draw:
    """A token from each row of ``scores``, the first at ``position``, by ``sampler`` alone: no
    edits, no penalty. So whoever answers may draw for several runs at once."""

    scores: Full
    sampler: Sampler
    position: int


@dataclass(frozen=True, slots=True)
class Weigh:
    """All columns, and ``k`` alternatives, of the tokens ``ids`` that ``scores`` predicted."""

    scores: Scores
    ids: Sequence[int]
    k: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a Feed gave, and the wall time of the pass in ms."""

    out: Extension
    ms: float


Event = Take | Keep | Back | Draw | Weigh | Feed | Step | Finish
Drawn = tuple[Sequence[int], Sequence[float]]
Events = Generator[Event, Any, None]


class Machine:
    """One run. ``state`` is its memory, once it has one; ``crowded()``: others decode beside it."""

    def __init__(
        self,
        plan: Plan,
        info: ModelInfo,
        abilities: Abilities,
        vocabulary: Vocabulary,
        pace: Pace,
        cost: Cost,
        cancelled: Callable[[], bool],
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan = plan
        self.info = info
        self.copies = abilities.fork == "copy"
        self.observer = Observer(plan, info, abilities.scores, vocabulary)
        self.pace = pace
        self.cancelled = cancelled
        self.crowded = crowded
        self.state: Any = None
        self.ids: list[int] = plan.given.ids.tolist()
        self.speculation: Speculation | None = None
        self.beside: Any = None  # the memory made under edits inside the model, if there are any
        if plan.speculate == "auto" and not plan.applied.inner and abilities.fork == "crop":
            self.speculation = Speculation(self.ids, cost)
        self._cost = cost
        self._tail = bytearray()
        self._rows: list[Row] = []
        self._on_path = True

    def events(self) -> Events:
        """The run, from the first request to the reason for its end."""
        plan = self.plan
        # the last token before the first new one is fed in any case: its scores are needed
        self.state = yield Take(plan.given.ids, 0 if plan.fresh else max(plan.have, 1) - 1)
        if plan.have == 0 and len(plan.given):
            yield self.observer.blank()
        if plan.known is not None:
            yield self.observer.known(plan.known)
        last = yield from self._prefill()
        if last is None or (self.cancelled() and plan.max_new_tokens):
            yield "cancelled"
            return
        if plan.max_new_tokens == 0:
            yield "scored"
            return
        beside = None
        if plan.applied.inner:
            beside = yield from self._prefill_beside()
            if beside is None:
                yield "cancelled"
                return
        yield from self._decode(last, beside)

    def _prefill_beside(self) -> Generator[Event, Any, Answer | None]:
        """The given tokens once more, under the edits inside: only what comes after is wanted."""
        plan, total = self.plan, len(self.ids)
        clean = min(getattr(e, "at", 0) for e in plan.applied.inner)
        limit = 0 if plan.fresh else total - 1
        self.beside = yield Take(plan.given.ids, limit, plan.applied.inner, clean)
        position, answer = len(self.beside.ids), None
        while position < total and not self.cancelled():
            end = min(total, position + self.pace.chunk())
            last = int(end == total)
            answer = yield Feed(
                self.beside, self.ids[position:end], last * (plan.attention != "none"), last,
                plan.applied.changes,
            )  # fmt: skip
            if answer is None:
                return None
            self.pace.saw(end - position, answer.ms)
            position = end
        return answer if position == total else None

    def _prefill(self) -> Generator[Event, Any, Answer | None]:
        """Feed the given tokens in chunks; a chunk's scores are those of the tokens after it."""
        plan, total = self.plan, len(self.ids)
        position = len(self.state.ids)
        answer: Answer | None = None
        while position < total:
            if self.cancelled():
                return None
            end = min(total, position + self._chunk(position))
            if self.copies and position < total - 1:
                end = min(end, total - 1)
            elif self.copies and position == total - 1 > 0:
                yield Keep(self.state)
            start, upto = max(position + 1, plan.have), min(end + 1, total)
            # after the last token stands the first one to be decoded
            last = end == total and (plan.max_new_tokens > 0 or upto > start)
            wanted = max(upto - start, 0) + last
            # token t has its row in the query at t-1: wanted from max(record_from, position+1) on
            rows = max(0, end - max(position, plan.record_from - 1))
            answer = yield Feed(self.state, self.ids[position:end], rows, wanted)
            if answer is None:
                return None
            self.pace.saw(end - position, answer.ms)
            if upto > start:
                scores = answer.out.scores
                assert scores is not None
                begin = time.perf_counter()
                ids = self.ids[start:upto]
                found = yield Weigh(scores.cut(0, upto - start), ids, plan.alternatives)
                spent = answer.ms + (time.perf_counter() - begin) * 1e3
                yield self.observer.step(
                    start, plan.given.slice(start, upto), found, ms=spent / (end - position),
                    rows=answer.out.attention, fed=end, progress=(upto, total),
                )  # fmt: skip
            position = end
        return answer

    def _chunk(self, position: int) -> int:
        """How many of the given tokens to feed next: by the pace, and by what rows would take."""
        size = min(self.pace.chunk(), max(16, LOGIT_BYTES // (4 * (self.info.vocab or 1))))
        first = self.plan.record_from - 1
        if self.plan.attention != "none" and position + size > first:
            per = 4 * len(self.info.attention_layers) * max(self.info.heads or 1, 1) * len(self.ids)
            size = min(size, max(first - position, 0) + max(1, ROW_BYTES // max(per, 1)))
        return max(1, size)

    def _decode(self, answer: Answer, beside: Answer | None) -> Events:
        """Draw what the last pass allows, hand it out, feed it; a pass may allow several.

        ``beside``: the same pass under edits inside the model. Then tokens are drawn from its
        scores and the rows of attention are its own; everything else is measured on the model as
        it is, which reads the same tokens.
        """
        plan, end = self.plan, len(self.ids) + self.plan.max_new_tokens
        scores = answer.out.scores
        assert scores is not None
        scores = scores.cut(len(scores) - 1, len(scores))
        draft: list[int] = []
        while True:
            begin = time.perf_counter()
            fed = len(self.ids) + len(draft)
            start = len(self.ids)
            ahead: Drawn | None = None
            if self._alike(scores, draft, beside):
                assert isinstance(scores, Full)
                ahead = yield Draw(scores, plan.sampler, start)
            ids, drawn, finish = self._draw(scores, draft, beside, ahead)
            looked, self._rows = tuple(self._rows), []
            if not ids:
                yield "stuck"
                return
            found = yield Weigh(scores.cut(0, len(ids)), ids, plan.alternatives)
            tokens = self.observer.tokens(ids)
            seen = answer if beside is None else beside
            spent = answer.ms + (beside.ms if beside is not None else 0.0)
            ms = (spent + (time.perf_counter() - begin) * 1e3) / len(ids)
            step = self.observer.step(
                start, tokens, found, ms=ms, rows=seen.out.attention, fed=fed, drawn=drawn,
            )  # fmt: skip
            if looked:
                step = replace(step, changed=looked)
            if fed > start + len(ids) - 1:
                yield Back(self.state, fed - (start + len(ids) - 1))
            yield step
            if finish is None and len(self.ids) >= end:
                finish = "length"
            if finish is not None:
                yield finish
                return
            draft = self._propose(end)
            if self.copies and len(self.state.ids) % KEPT_EVERY == 0:
                yield Keep(self.state)
            rows = 1 + len(draft) if plan.attention != "none" else 0
            own = 0 if beside is not None else rows
            reply = yield Feed(self.state, [self.ids[-1], *draft], own, 1 + len(draft))
            if reply is not None and beside is not None:
                answer = reply
                reply = beside = yield Feed(
                    self.beside, [self.ids[-1]], rows, 1, plan.applied.changes
                )
            if reply is None:
                yield "cancelled"
                return
            if beside is None:
                answer = reply
            if not self.crowded():
                self._cost.saw(1 + len(draft), answer.ms)
            scores = answer.out.scores
            assert scores is not None

    def _propose(self, end: int) -> list[int]:
        if self.speculation is None or self.crowded():
            return []
        # the token that is sure is fed with the proposal; one more is drawn after it
        return self.speculation.propose(end - len(self.ids) - 1)

    def _alike(self, scores: Scores, draft: Sequence[int], beside: Answer | None) -> bool:
        """Whether the draws ask for nothing but the scores, so that they go with those of others.

        Sampled proposals do not: most of the rows behind a miss would be drawn in vain.
        """
        plan = self.plan
        return (
            isinstance(scores, Full) and not scores.deferred and beside is None
            and not plan.applied.processors and plan.likeliest is None
            and plan.sampler.repetition_penalty == 1.0
            and not (draft and plan.sampler.temperature)
        )  # fmt: skip

    def _draw(
        self, scores: Scores, draft: Sequence[int], beside: Answer | None, ahead: Drawn | None
    ) -> tuple[list[int], dict[str, list[float]], Finish | None]:
        """Tokens from consecutive scores, as far as the draft agrees with what was drawn.

        ``ahead``: what a :class:`Draw` of all of them gave.

        Raises InputError when edits leave nothing to draw at the very first token; later on that
        is how a run ends.
        """
        plan = self.plan
        ids: list[int] = []
        drawn: dict[str, list[float]] = {n: [] for n in plan.changed if n != "price"}
        finish: Finish | None = None
        for n in range(len(draft) + 1):
            position = len(self.ids)
            if ahead is not None:
                token, logq = ahead[0][n], ahead[1][n]
                changed = {**UNCHANGED, "logprob_sampled": logq}
            else:
                found = self._drawn_singly(scores, n, position, beside)
                if found is None:
                    if position == len(plan.given):
                        raise InputError("edits", "leave no token that can be drawn")
                    finish = "stuck"
                    break
                token, changed = found
            for name, values in drawn.items():
                values.append(changed[name])
            ids.append(token)
            self.ids.append(token)
            if self.speculation is not None:
                self.speculation.add(token)
            finish = self._stops(token)
            if finish is not None or n == len(draft) or token != draft[n]:
                break
        if draft and self.speculation is not None:
            self.speculation.saw(len(draft), max(len(ids) - 1, 0))
        return ids, drawn, finish

    def _drawn_singly(
        self, scores: Scores, n: int, position: int, beside: Answer | None
    ) -> tuple[int, dict[str, float]] | None:
        """The token of row ``n``, and what the distribution says of it on the way from the model's
        own to the one it was drawn from; None where edits leave nothing to draw."""
        plan, processors = self.plan, self.plan.applied.processors
        raw, inner = logits_of(scores, n), None
        if beside is not None:
            assert beside.out.scores is not None
            raw = inner = logits_of(beside.out.scores, 0)
        z = after_edits(raw, self.ids, processors)
        if z is None:
            return None
        if plan.likeliest is None:
            token, logq = pick(plan.sampler, z, self.ids, position, bool(processors))
        else:
            token, logq = self._look(z, position)
        masked = float(torch.log_softmax(z, dim=-1)[token]) if processors else math.nan
        changed = {**UNCHANGED, "logprob_sampled": logq, "logprob_masked": masked}
        if inner is not None:
            changed["logprob_inner"] = float(torch.log_softmax(inner, dim=-1)[token])
        return token, changed

    def _look(self, z: torch.Tensor, position: int) -> tuple[int, float]:
        """The likeliest token, or the next one of the path, in place of a draw; the path is left
        where a token of it cannot come."""
        asked = self.plan.likeliest
        assert asked is not None
        n = position - len(self.plan.given)
        wanted = asked.path[n] if self._on_path and n < len(asked.path) else None
        row = look(asked, self.plan.sampler, z, self.ids, wanted)
        self._on_path = wanted == row.token
        self._rows.append(row)
        return row.token, row.own

    def _stops(self, token: int) -> Finish | None:
        if token in self.plan.stop_ids:
            return "eos"
        if not self.plan.stop:
            return None
        self._tail += self.observer.tokens([token]).data
        if any(s in self._tail for s in self.plan.stop):
            return "stop"
        longest = max(len(s) for s in self.plan.stop)
        del self._tail[: max(0, len(self._tail) - longest + 1)]
        return None


def logits_of(scores: Scores, n: int) -> torch.Tensor:
    """float32 (V,) logits of row ``n``; of a Top: its logprobs at their ids, -inf elsewhere."""
    if isinstance(scores, Full):
        return torch.as_tensor(scores.logits[n])
    return _dense(scores, n)


def _dense(top: Top, n: int) -> torch.Tensor:
    ids = torch.as_tensor(top.ids[n]).to(torch.int64)
    held = ids >= 0
    logits = torch.full((int(ids.max()) + 1,), -math.inf)
    logits[ids[held]] = torch.as_tensor(top.logprobs[n]).to(torch.float32)[held]
    return logits
