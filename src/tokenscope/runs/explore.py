"""Explore: what else would the model have written from here, and with which probability."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tokenscope.code.views import language_of
from tokenscope.control import QUIET, Cancelled, Control
from tokenscope.decode.changed import Likeliest, Row
from tokenscope.decode.engine import Engine
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.explore.asked import Ask
from tokenscope.explore.cost import Cost, Spent, allowance, cost, per_branch, refuse
from tokenscope.explore.frontier import Frontier, Pending, Read
from tokenscope.explore.keys import Key, key_of
from tokenscope.runs.explore_changed import changed_of, ended_of, read_changed, root, with_beside
from tokenscope.runs.explore_sampled import draw, sampler_of, warm
from tokenscope.runs.explored import Explored, Rows
from tokenscope.runs.generate import fork, generate
from tokenscope.runs.many import FORKS, forks, together
from tokenscope.runs.many import Branch as Fork
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.record import Trace

LEAST_ALTERNATIVES = 10


class Exploring:
    """An exploration in pieces. Checks, and refuses, when it is made; ``cost`` is known then.

    Iterate ``waves()``: each gives the names of the branches that are new; ``result()`` is what
    there is at any time. ``given``: a prompt, or a trace; ``at``: the first token that is explored
    (None: the first generated one). ``memory``: bytes that all branches may hold together (None:
    what is free); more is refused before the start, and not begun while it runs. ``resume``: an
    earlier result, to go on with. ``sampler``: masses are of the distribution that tokens are
    drawn from, by the sampler and edits of the trace, changed by these settings (None: of the
    model's own; the sampled way always draws).
    """

    def __init__(
        self, engine: Engine, given: str | Trace, at: int | None = None, *, ask: Ask = Ask(),
        outcome: str | Key = "syntax", language: str = "", memory: int | None = None,
        control: Control = QUIET, resume: Explored | None = None,
        sampler: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.engine, self.ask, self.control = engine, ask, control
        self.key = key_of(outcome)
        self.outcome = outcome if isinstance(outcome, str) else "own"
        self.written = _written(engine, given, at, ask, language)
        trace = self.written
        self.at = trace.n_prompt if at is None else at
        if isinstance(self.at, bool) or not 1 <= self.at <= len(trace):
            raise InputError("at", f"must be a token index in 1..{len(trace)}")
        held = trace.alternatives.k if trace.alternatives is not None else 0
        self.k = held if held >= ask.width else max(ask.width, LEAST_ALTERNATIVES)
        self.sampler: Settings | None = None
        if ask.way == "sampled":
            self.sampler = warm(sampler_of(trace, self.at, sampler or {}))
        elif sampler is not None:
            self.sampler = changed_of(self, sampler)
        self.info = with_beside(engine.info, self.sampler)
        self.cost: Cost = cost(ask, self.info, self.at, self.k, FORKS, engine.cost.single)
        refuse(self.cost, ask, self.info, self.at, self.k, memory)
        self.base = trace.cut(self.at)
        self.language = language_of(trace, language or None)
        self.spent = Spent(allowed=allowance(self.info, memory))
        self._before, self._kept = engine.prefixes.nbytes, 0
        self._looked: dict[int, list[Row]] = {}
        self.frontier = Frontier(ask, self.at)
        self.rows: list[Rows] = []
        self._stops = tuple(s.encode() for s in ask.stop)
        if resume is not None:
            self._resume(resume)

    # --- the work ------------------------------------------------------------------------------
    def waves(self) -> Iterator[list[int]]:
        """Decode wave by wave, most mass first, until nothing is left that was asked for. Ends
        early, with what there is, when it is cancelled."""
        began = time.monotonic()
        try:
            for names in self._names():
                self.spent.seconds += time.monotonic() - began
                began = time.monotonic()
                done = self.spent.tokens
                self.control.progress(done, max(self.cost.tokens, done), "tokens")
                yield names
        except Cancelled:
            return
        finally:
            self.spent.seconds += time.monotonic() - began

    def _names(self) -> Iterator[list[int]]:
        if self.ask.way == "sampled":
            assert self.sampler is not None
            yield from draw(self, self.sampler)
            return
        if not self.rows:
            yield [self._root() if self.sampler is None else root(self)]
        while wave := self._wave():
            yield self._decode(wave)

    def run(self) -> Explored:
        """All of it."""
        for _ in self.waves():
            pass
        return self.result()

    def result(self) -> Explored:
        """What is known by now."""
        return Explored.of(
            self.frontier, self.base, self.rows, self.key, self.outcome, self.language,
            replace(self.spent), self.sampler,
        )  # fmt: skip

    def _root(self) -> int:
        """The path of what was written, gone on with as far as the horizon."""
        end = min(len(self.written), self.at + self.ask.horizon)
        start = self.written.cut(end)
        ended, finish = self.cut(start, self.at, b"")
        left = self.at + self.ask.horizon - end
        if finish == "length":
            settings = self.settings(left if ended == end else 0)
            made = fork(self.engine, start.cut(ended), ended, "", settings).result()
            self.spent.tokens += len(made) - ended
        else:  # measured as all others are
            made = fork(self.engine, start.cut(ended), ended, "", self.settings(0)).result()
        stopped, finish = self.cut(made, self.at, b"")
        own = self.keep(None, self.at, made.cut(stopped), finish)
        return self.frontier.root(own, self.read(-1), finish).name

    def _wave(self) -> list[Pending]:
        """The next alternatives to decode: as many as go through the model together."""
        wave: list[Pending] = []
        tokens, budget = self.spent.tokens, self.ask.budget_tokens
        fits, self.spent.ended = self.fits(), ""
        while len(wave) < FORKS and self.frontier.more:
            if len(wave) >= fits or len(self.rows) + len(wave) >= self.ask.most:
                self.spent.ended = "memory" if len(wave) >= fits else "branches"
                break
            found = self.frontier.next()
            if found is None:
                break
            tokens += self._room(found)
            if self.control.cancelled or (budget is not None and tokens > budget):
                self.frontier.back(found)
                self.spent.ended = "" if self.control.cancelled else "tokens"
                break
            wave.append(found)
        return wave

    def fits(self) -> int:
        """How many branches more may be held, by what is held now."""
        self.spent.bytes = self._kept + max(0, self.engine.prefixes.nbytes - self._before)
        one = per_branch(self.ask, self.info, self.at, self.k)
        return max(0, self.spent.allowed - self.spent.bytes) // one

    def _room(self, what: Pending) -> int:
        return self.at + self.ask.horizon - what.at - 1

    def _decode(self, wave: Sequence[Pending]) -> list[int]:
        """Decode a wave together; branches come in its order. What was cancelled waits on."""
        traces = {p.parent: self.trace(p.parent) for p in wave}
        before = [self._path(p.parent, p.at) for p in wave]
        asked = []
        for p, path in zip(wave, before, strict=True):
            ended = p.id in self.engine.backend.stop_ids or self._stopped(
                path + self.engine.vocabulary.piece(p.id)
            )
            left = {"max_new_tokens": 0 if ended else self._room(p)}
            asked.append(Fork(traces[p.parent], p.at, p.id, left))
        done: dict[int, Trace] = {}
        runs = forks(self.engine, asked, self.settings(0))
        self._looked = {}
        for n, run in together(runs, FORKS, self.watch):
            done[n] = run.trace
            self.spent.tokens += len(done[n]) - wave[n].at - 1
        if self.control.cancelled:
            for p in wave:
                self.frontier.back(p)
            raise Cancelled("branches")
        names = []
        for n, (p, path) in enumerate(zip(wave, before, strict=True)):
            end, finish = self.cut(done[n], p.at, path)
            finish = ended_of(done[n], end, finish)
            own = self.keep(p.parent, p.at, done[n].cut(end), finish)
            read = self.read(-1)
            if self.sampler is not None:
                read = read_changed(self, p, self._looked.get(n, ()), len(own))
            names.append(self.frontier.decoded(p, own, read, finish).name)
        return names

    def watch(self, number: int, run: Run, step: Step) -> None:
        """Keeps what was looked at beside the tokens. Ends a run of a wave when the exploration is
        cancelled; what it made is not used."""
        if step.changed:
            self._looked.setdefault(number, []).extend(step.changed)
        if self.control.cancelled:
            run.cancel()

    def settings(self, tokens: int) -> Settings:
        """Of a run of ``tokens`` tokens: greedy, or the likeliest of what is drawn from."""
        changed = self.sampler
        return replace(
            changed if changed is not None else Settings(), max_new_tokens=tokens,
            alternatives=self.k, attention="none", stop=self.ask.stop,
            likeliest=Likeliest(self.k) if changed is not None else None,
        )  # fmt: skip

    # --- what came -----------------------------------------------------------------------------
    def _stopped(self, data: bytes) -> bool:
        return any(s in data for s in self._stops)

    def cut(self, trace: Trace, at: int, before: bytes) -> tuple[int, str]:
        """Where a branch that begins at ``at`` ends, and why. ``before``: what was explored before
        it, since a stop text may begin there."""
        data = before
        for t in range(at, min(len(trace), self.at + self.ask.horizon)):
            if int(trace.ids[t]) in self.engine.backend.stop_ids:
                return t + 1, "eos"
            data += trace.tokens[t].bytes
            if self._stopped(data):
                return t + 1, "stop"
        return min(len(trace), self.at + self.ask.horizon), "length"

    def keep(self, parent: int | None, at: int, trace: Trace, finish: str) -> tuple[int, ...]:
        """Keep a branch's own rows; gives its own tokens."""
        self.rows.append(Rows.of(parent, at, trace, finish))
        self._kept += self._size(self.rows[-1])
        return tuple(int(i) for i in trace.ids[at:])

    def _size(self, rows: Rows) -> int:
        """Bytes: what was read of a branch is kept once more, in float64."""
        return rows.nbytes + len(rows.part.tokens) * (16 + 12 * self.k)

    def read(self, name: int) -> Read:
        """What the model said along a branch's own rows."""
        part = self.rows[name].part
        held = part.alternatives
        assert held is not None
        return Read(
            part.columns["logprob"].astype(np.float64), held.ids,
            held.logprobs.astype(np.float64), part.columns["entropy"].astype(np.float64),
        )  # fmt: skip

    def _path(self, name: int, end: int) -> bytes:
        """The bytes from the first explored token to token ``end`` of a branch's path."""
        pieces: list[bytes] = []
        at: int | None = name
        while at is not None:
            rows = self.rows[at]
            pieces.append(rows.part.tokens.slice(0, end - rows.at).data)
            at, end = rows.parent, rows.at
        return b"".join(reversed(pieces))

    def trace(self, name: int) -> Trace:
        """A branch as a trace of its own, from the first token on."""
        return Rows.trace(self.rows, self.base, name)

    def _resume(self, held: Explored) -> None:
        if held.at != self.at or held.base.ids.tolist() != self.base.ids.tolist():
            raise InputError("resume", "explored from another start")
        if held.ask.way != self.ask.way or held.ask.horizon != self.ask.horizon:
            raise InputError("resume", "explored in another way, or to another horizon")
        if self.ask.way != "sampled" and held.sampler != self.sampler:
            raise InputError("resume", "explored under another sampler, or other edits")
        self.frontier = held.frontier.again(self.ask)
        self.rows = list(held.rows)
        self.spent = replace(held.spent, allowed=self.spent.allowed, ended="")
        self._kept = sum(self._size(r) for r in self.rows)


def _written(
    engine: Engine, given: str | Trace, at: int | None, ask: Ask, language: str
) -> Trace:  # fmt: skip
    """The text that is explored: a trace as it is, a prompt decoded greedily as far as ``at``."""
    if isinstance(given, Trace):
        if given.origin.tokenizer_digest not in ("", engine.info.tokenizer_digest):
            raise InputError("trace", "was made with another tokenizer")
        return given
    settings = Settings(max_new_tokens=0, alternatives=max(ask.width, LEAST_ALTERNATIVES),
                        attention="none")  # fmt: skip
    trace = generate(engine, prompt=given, language=language, settings=settings).result()
    if at is not None and isinstance(at, int) and at > len(trace):
        more = replace(settings, max_new_tokens=at - len(trace))
        trace = generate(engine, prompt=given, language=language, settings=more).result()
    return trace


def explore(
    engine: Engine, given: str | Trace, at: int | None = None, *,
    outcome: str | Key = "syntax", language: str = "", memory: int | None = None,
    control: Control = QUIET, resume: Explored | None = None, whole: bool = False,
    sampler: Mapping[str, Any] | None = None, **asked: Any,
) -> Explored:  # fmt: skip
    """Expand alternatives of a prompt or a trace from token ``at`` on.

    Options as the fields of ``explore.asked.Ask``: ``way``, ``width``, ``depth``, ``cover``,
    ``gate``, ``region``, ``horizon``, ``stop``, ``budget_tokens``, ``most``, ``least``, ``draws``.
    ``whole``: decisions anywhere up to the horizon, most mass first (``depth`` has no limit unless
    said). ``outcome``: ``bytes``, ``syntax``, ``regex:...``, ``query:...`` or a callable over
    ``explore.keys.Ended``. ``sampler``: masses of the distribution that is drawn from, by the
    trace's own sampler and edits, with these settings (temperature, top_p, edits ...) in their
    place; ``{}`` takes them as they are. ``resume``: an earlier result. Raises InputError,
    CapacityError, AbilityError.
    """
    if whole or asked.get("region") is not None:
        asked.setdefault("depth", None)
    if unknown := set(asked) - set(Ask.__dataclass_fields__):
        raise InputError("explore", f"unknown option {sorted(unknown)[0][:40]!r}")
    if resume is not None and not asked:
        ask = resume.ask
    else:
        ask = Ask(**asked)
    return Exploring(
        engine, given, at, ask=ask, outcome=outcome, language=language, memory=memory,
        control=control, resume=resume, sampler=sampler,
    ).run()  # fmt: skip
