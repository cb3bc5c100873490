"""Forking tokens: where the choice of a token changes what comes of the text.

At token t let "before" be the outcome with t still open, and "after" with it chosen. Followed
greedily, after is one outcome, and the total variation between the two is the mass of the
alternatives that lead to another one. It is measured where a cheap gate says that there may be
something to find, and on a random sample of the other places, to see what the gate misses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.code.aliases import PLAIN
from tokenscope.code.views import language_of
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explore.asked import number, whole
from tokenscope.explore.keys import Ended, Key, key_of
from tokenscope.runs.forked import GATES, Forking, Gate, Place, Way
from tokenscope.runs.many import FORKS, Branch, forks, together
from tokenscope.runs.settings import Settings
from tokenscope.runs.structure import viability, with_viability
from tokenscope.trace.record import Trace

SLACK = 16  # tokens that an alternative may need more to come to the end of a text that ended


@dataclass(frozen=True, slots=True)
class ForkingCost:
    """At most: ``branches`` to follow and ``tokens`` to decode, at ``places`` tokens."""

    places: int
    branches: int
    tokens: int


class ForkingJob:
    """The measurement in pieces. Checks when it is made; ``cost``, ``gated`` and ``skipped`` are
    known then. Iterate ``places()``; ``done`` holds those that came, ``result()`` is what there is
    at any time.

    ``gate``: ``entropy`` of at least ``threshold`` nats, ``margin`` of at most ``threshold``, or
    ``viable``: entropy among the alternatives that could go on to parse, at least ``threshold``.
    At an open place the likeliest ``width`` tokens are followed greedily to where the trace ends
    (with 16 tokens more where it ended by itself), to a ``stop`` text, or for ``horizon`` tokens
    from the place on, at which what was written is cut then too. ``region``: tokens [start, end)
    to look at (None: the generated ones). ``check``: skipped places, drawn with ``seed``, that are
    measured too. Raises InputError, AbilityError.
    """

    def __init__(
        self, engine: Engine, trace: Trace, *, gate: Gate = "entropy", threshold: float = 0.5,
        width: int = 4, outcome: str | Key = "syntax", stop: Sequence[str] = (), check: int = 8,
        seed: int = 0, language: str = "", horizon: int | None = None,
        region: tuple[int, int] | None = None, control: Control = QUIET,
    ) -> None:  # fmt: skip
        if gate not in GATES:
            raise InputError("gate", f"must be one of {', '.join(GATES)}")
        number("threshold", threshold, 0.0, 100.0)
        whole("width", width, 2, 256)
        whole("check", check, 0, 10_000)
        if horizon is not None:
            whole("horizon", horizon, 1, 100_000)
        held = trace.alternatives
        if held is None or held.k < width:
            raise InputError("trace", f"keeps fewer than {width} alternatives a token")
        self.engine, self.trace, self.control = engine, trace, control
        self.gate, self.threshold, self.width = gate, threshold, width
        self.horizon, self.stop = horizon, tuple(stop)
        self.outcome = outcome if isinstance(outcome, str) else "own"
        self.key, self.language = key_of(outcome), language_of(trace, language or None)
        start, end = _region(trace, region)
        self.start, self.asked = start, range(start, end)
        signal = self._signal()[start:end]
        opened = signal <= threshold if gate == "margin" else ~(signal < threshold)
        self.gated = {t for t, o in zip(self.asked, opened, strict=True) if o}
        closed = [t for t in self.asked if t not in self.gated]
        self.skipped = len(closed)
        chosen = np.random.default_rng(seed).permutation(len(closed))[:check]
        self.measured = sorted([*self.gated, *(closed[int(i)] for i in chosen)])
        self._begin = int(trace.tokens.offsets[max(trace.n_prompt, 1)])
        self._follows = list(self._ways())
        tokens = sum(left + 1 for _, _, _, left in self._follows)
        self.cost = ForkingCost(len(self.measured), len(self._follows), tokens)
        self.done: list[Place] = []
        self._decoded = 0

    # --- the work ------------------------------------------------------------------------------
    def places(self) -> Iterator[Place]:
        """Follow all alternatives together; a place comes when all of its own are followed.
        Raises Cancelled."""
        held = self.trace.alternatives
        assert held is not None
        settings = Settings(alternatives=held.k, attention="none", stop=self.stop)
        work = [Branch(self.trace, t, i, {"max_new_tokens": n}) for t, i, _, n in self._follows]
        waits = {t: sum(f[0] == t for f in self._follows) for t in self.measured}
        ways: dict[int, list[Way]] = {t: [self._own(t)] for t in self.measured}
        for t in [t for t in self.measured if not waits[t]]:  # no other token is kept there
            yield self._place(t, ways[t])
        for done, (n, run) in enumerate(together(forks(self.engine, work, settings), FORKS)):
            self.control.step(done, len(work), "branches")
            t, token, p, _ = self._follows[n]
            self._decoded += len(run.trace) - t - 1
            ways[t].append(self._way(run.trace, t, token, p))
            waits[t] -= 1
            if not waits[t]:
                yield self._place(t, ways[t])

    def run(self) -> Forking:
        """All of it."""
        for _ in self.places():
            pass
        return self.result()

    def result(self) -> Forking:
        """What is measured by now."""
        places = tuple(sorted(self.done, key=lambda p: p.at))
        return Forking(
            self.trace, places, self.start, len(self.asked), self.skipped, self._decoded,
        )  # fmt: skip

    # --- its parts -----------------------------------------------------------------------------
    def _signal(self) -> NDArray[np.float64]:
        """float64 (T,): what the gate looks at. NaN (no alternative is known to be viable) opens
        it: nothing is known there."""
        if self.gate != "viable":
            return self.trace.column(self.gate).astype(np.float64)
        if self.language in PLAIN:
            raise InputError("gate", "viable needs a language that can be parsed")
        judged = viability(
            self.trace, language=self.language, budget_s=math.inf, control=self.control
        )
        return with_viability(self.trace, judged).column("viable_entropy").astype(np.float64)

    def _ways(self) -> Iterator[tuple[int, int, float, int]]:
        """(place, token, its mass, tokens to decode behind it) of every alternative."""
        trace, held = self.trace, self.trace.alternatives
        assert held is not None
        room = SLACK if trace.finish in ("eos", "stop") else 0
        for t in self.measured:
            most = len(trace) - t - 1 + room
            if self.horizon is not None:
                most = self.horizon - 1
            listed = zip(held.ids[t].tolist(), held.logprobs[t], strict=True)
            for token, logp in list(listed)[: self.width]:
                if token >= 0 and token != int(trace.ids[t]):
                    left = 0 if token in self.engine.backend.stop_ids else most
                    yield t, token, float(np.exp(np.float64(logp))), left

    def _own(self, t: int) -> Way:
        p = float(np.exp(np.float64(self.trace.column("logprob")[t])))
        return self._way(self.trace, t, int(self.trace.ids[t]), p)

    def _way(self, made: Trace, t: int, token: int, p: float) -> Way:
        end = len(made) if self.horizon is None else min(len(made), t + self.horizon)
        ended = self._ended(made.cut(end))
        at = int(made.tokens.offsets[t])
        return Way(token, p, self.key(ended), ended.data[at:].decode("utf-8", "replace"))

    def _place(self, t: int, ways: list[Way]) -> Place:
        own, *others = ways
        others.sort(key=lambda w: (-w.mass, w.id))
        made = Place(t, (own, *others), t in self.gated)
        self.done.append(made)
        return made

    def _ended(self, trace: Trace) -> Ended:
        """A branch as its key sees it: from the first generated token to the first stop text."""
        data = trace.tokens.data
        stops = [s.encode() for s in self.stop]
        cuts = [i + len(s) for s in stops if (i := data.find(s, self._begin)) >= 0]
        kept = data[: min(cuts)] if cuts else data
        return Ended(kept, min(self._begin, len(kept)), self.language, trace.finish)


def _region(trace: Trace, region: tuple[int, int] | None) -> tuple[int, int]:
    first = max(trace.n_prompt, 1)
    if region is None:
        return first, len(trace)
    start, end = whole("region", region[0], 0), whole("region", region[1], 0)
    if not first <= start < end <= len(trace):
        raise InputError("region", f"must be [start, end) within the generated tokens, {first}.."
                                   f"{len(trace)}")  # fmt: skip
    return start, end


def forking(engine: Engine, trace: Trace, **options: Any) -> Forking:
    """Measure the generated tokens of a trace; options as of :class:`ForkingJob`. Raises
    InputError, AbilityError, Cancelled."""
    return ForkingJob(engine, trace, **options).run()
