"""Which intervention changes the outcome most for the least damage: arms over prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tokenscope.code.viable import judge
from tokenscope.code.views import language_of
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.decode.step import Step
from tokenscope.errors import InputError
from tokenscope.explain.intervals import Interval
from tokenscope.explore.keys import Ended, Key, key_of
from tokenscope.runs.arms import F64, FIGURES, NONE, Arm, Came, Ledger, over_prompts
from tokenscope.runs.damage import damage
from tokenscope.runs.forked import label_of
from tokenscope.runs.generate import generate
from tokenscope.runs.many import together
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.edits import Edit
from tokenscope.trace.record import Trace

MOST_PROMPTS, MOST_ARMS, MOST_DRAWS = 1000, 32, 64
SHARES = 8  # outcomes of an arm whose share gets an interval
UNKNOWN = Interval(math.nan, math.nan, math.nan, 0)
PLAIN = Settings(attention="none", alternatives=0)


class LedgerJob:
    """A ledger in pieces. Checks when it is made; iterate ``arms()``; ``result()`` is what there
    is at any time.

    ``outcome``: when two runs come to the same (see ``explore.keys``). ``draws``: seeds of each
    prompt (more than 1 needs a temperature). ``reference``: a text on which damage is measured.
    Raises InputError.
    """

    def __init__(
        self, engine: Engine, prompts: Sequence[str], arms: Mapping[str, Sequence[Edit]], *,
        outcome: str | Key = "syntax", reference: str = "", draws: int = 1, language: str = "",
        settings: Settings = PLAIN, control: Control = QUIET,
    ) -> None:  # fmt: skip
        if isinstance(prompts, str) or not 1 <= len(prompts) <= MOST_PROMPTS:
            raise InputError("prompts", f"must be a list of 1 to {MOST_PROMPTS} prompts")
        if not 1 <= len(arms) <= MOST_ARMS or NONE in arms:
            raise InputError("arms", f"1 to {MOST_ARMS} are needed; none is there by itself")
        if not 1 <= draws <= MOST_DRAWS or (draws > 1 and settings.temperature == 0):
            raise InputError("draws", f"must lie in 1..{MOST_DRAWS}; 1 without a temperature")
        self.engine, self.prompts, self.control = engine, tuple(prompts), control
        self.asked = {NONE: (), **{n: tuple(e) for n, e in arms.items()}}
        self.draws, self.language, self.settings = draws, language, settings
        self.reference, self.key = reference, key_of(outcome)
        given = outcome if isinstance(outcome, str) else getattr(outcome, "__name__", "a function")
        self.outcome = str(given)
        self.runs = len(prompts) * draws * len(self.asked)
        self._made: list[Arm] = []
        self._traces: dict[str, tuple[Trace, ...]] = {}
        self._clean: list[str] = []

    def arms(self) -> Iterator[Arm]:
        """Decode every prompt under no edits and under every arm, with the same seeds; an arm
        comes when its damage is measured too. Raises AbilityError, Cancelled."""
        for name in self.asked:
            self._traces[name] = self._decoded(name)
            arm = self._arm(name)
            self._made.append(arm)
            yield arm

    def run(self) -> Ledger:
        """All of it."""
        for _ in self.arms():
            pass
        return self.result()

    def result(self) -> Ledger:
        """The arms that are done."""
        return Ledger(
            tuple(self._made), len(self.prompts), self.draws, self.outcome, dict(self._traces)
        )

    def _decoded(self, name: str) -> tuple[Trace, ...]:
        settings, edits = self.settings, self.asked[name]
        asked = [
            (p, replace(settings, edits=(*settings.edits, *edits), seed=settings.seed + d))
            for p in self.prompts for d in range(self.draws)
        ]  # fmt: skip
        begun = (
            generate(self.engine, prompt=p, language=self.language, settings=s) for p, s in asked
        )
        done: dict[int, Trace] = {}
        before = len(self._made) * len(asked)
        self.control.step(before, self.runs, "runs")
        for n, run in together(begun, watch=self._watch):
            self.control.step(before + len(done), self.runs, "runs")
            done[n] = run.trace
        return tuple(done[n] for n in range(len(asked)))

    def _watch(self, number: int, run: Run, step: Step) -> None:
        if self.control.cancelled:
            run.cancel()

    def _arm(self, name: str) -> Arm:
        traces, edits = self._traces[name], self.asked[name]
        ended = [_ended(t, self.language) for t in traces]
        keys = [self.key(e) for e in ended]
        if name == NONE:
            self._clean = keys
        values = self._values(traces, keys)
        clean = self._made[0].values if self._made else values
        both = {n: over_prompts(values[n], clean[n]) for n in FIGURES}
        hurt = None
        if self.reference and name != NONE:
            hurt = damage(self.engine, edits, self.reference, self.control)
        return Arm(
            name, edits, values, tuple(self._came(keys, ended)),
            {n: b[0] for n, b in both.items()}, {n: b[1] for n, b in both.items()}, hurt,
        )  # fmt: skip

    def _came(self, keys: Sequence[str], ended: Sequence[Ended]) -> Iterator[Came]:
        shape = len(self.prompts), self.draws
        for n, (key, runs) in enumerate(Counter(keys).most_common()):
            share, against = UNKNOWN, UNKNOWN
            if n < SHARES:
                mine, other = (
                    np.array([float(k == key) for k in held]).reshape(shape)
                    for held in (keys, self._clean)
                )
                share, against = over_prompts(mine, other)
            else:
                share = replace(UNKNOWN, mean=runs / len(keys))
            yield Came(key, label_of(ended[keys.index(key)].text), runs, share, against)

    def _values(self, traces: Sequence[Trace], keys: Sequence[str]) -> dict[str, F64]:
        rows = []
        for trace, mine, other in zip(traces, keys, self._clean, strict=True):
            figures, n = trace.summary(), trace.n_prompt
            paid = "price" in trace.columns
            price = float(np.nansum(trace.column("price")[n:])) if paid else 0.0
            rows.append([
                float(mine != other), _parses(trace, self.language), figures["generated_tokens"],
                price, figures["mean_surprisal"], figures["tokens_per_s"],
            ])  # fmt: skip
        table = np.array(rows, dtype=np.float64)
        shape = len(self.prompts), self.draws
        return {name: table[:, i].reshape(shape) for i, name in enumerate(FIGURES)}


def ledger(
    engine: Engine, prompts: Sequence[str], arms: Mapping[str, Sequence[Edit]], **options: Any
) -> Ledger:
    """Decode every prompt under every arm and under none, with the same seeds; options as of
    :class:`LedgerJob`. Raises InputError, AbilityError, Cancelled."""
    return LedgerJob(engine, prompts, arms, **options).run()


def _ended(trace: Trace, language: str) -> Ended:
    start = int(trace.tokens.offsets[trace.n_prompt])
    return Ended(trace.tokens.data, start, language_of(trace, language or None), trace.finish)


def _parses(trace: Trace, language: str) -> float:
    verdict = judge(trace.tokens.data, language_of(trace, language or None))
    return {"viable": 1.0, "not": 0.0, "unknown": math.nan}[verdict]
