"""Forking tokens: where the choice of a token changes what comes of the text.

At token t let "before" be the outcome with t still open, and "after" with it chosen. Followed
greedily, after is one outcome, and the total variation between the two is the mass of the
alternatives that lead to another one. It is measured where a cheap gate says that there may be
something to find, and on a random sample of the other places, to see what the gate misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokenscope.code.views import language_of
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explore.asked import number, whole
from tokenscope.explore.intervals import wilson
from tokenscope.explore.keys import Ended, Key, key_of
from tokenscope.runs.many import FORKS, Branch, forks, together
from tokenscope.runs.settings import Settings
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

Gate = Literal["entropy", "margin"]
SKIPPED, CHECKED, GATED = 0.0, 0.5, 1.0  # values of the column fork_gate
FORKS_AT = 0.1  # a skipped place counts as missed from this total variation on
SLACK = 16  # tokens that an alternative may need more to come to the end of a text that ended


@dataclass(frozen=True, slots=True)
class Place:
    """A measured token. ``low``: mass of the followed alternatives that lead to another outcome;
    ``high``: with what was not followed. ``outcomes``: key -> mass, the token's own included;
    ``own``: the key of what was written. ``gated``: the gate opened (else: checked at random)."""

    at: int
    low: float
    high: float
    own: str
    outcomes: dict[str, float]
    gated: bool


@dataclass(frozen=True, eq=False)
class Forking:
    """``trace`` with the columns ``fork_tv`` (NaN where not measured) and ``fork_gate`` (1: the
    gate opened, 0.5: checked at random, 0: skipped); both ``estimate``: each alternative is
    followed greedily, as one of many ways on."""

    trace: Trace
    places: tuple[Place, ...]
    tokens: int
    skipped: int
    decoded: int

    @property
    def skipped_share(self) -> float:
        """Of the tokens asked about, the share that the gate skipped."""
        return self.skipped / max(1, self.tokens)

    @property
    def checked(self) -> dict[str, float]:
        """What the gate may have missed: ``n`` skipped places that were measured, the largest
        ``fork_tv`` among them, how many reach 0.1, and the 95 % interval of their share."""
        tvs = [p.low for p in self.places if not p.gated]
        missed = sum(v >= FORKS_AT for v in tvs)
        low, high = wilson(missed, len(tvs))
        return {
            "n": len(tvs), "most": max(tvs, default=0.0), "missed": missed, "low": low,
            "high": high,
        }  # fmt: skip

    def to_pandas(self) -> pd.DataFrame:
        """One row per measured token, the largest change first."""
        import pandas as pd

        return pd.DataFrame(self.to_json()["places"])

    def to_json(self) -> dict[str, Any]:
        """One plain document."""
        order = sorted(self.places, key=lambda p: (-p.low, p.at))
        return {
            "tokens": self.tokens, "skipped": self.skipped, "skipped_share": self.skipped_share,
            "checked": self.checked, "decoded": self.decoded, "way": "greedy",
            "places": [
                {
                    "at": p.at, "text": self.trace.tokens[p.at].text, "fork_tv": p.low,
                    "high": p.high, "gated": p.gated, "outcomes": len(p.outcomes),
                }
                for p in order
            ],
        }  # fmt: skip


def forking(
    engine: Engine, trace: Trace, *, gate: Gate = "entropy", threshold: float = 0.5,
    width: int = 4, outcome: str | Key = "syntax", stop: Sequence[str] = (), check: int = 8,
    seed: int = 0, language: str = "", control: Control = QUIET,
) -> Forking:  # fmt: skip
    """Measure the generated tokens of a trace.

    ``gate``: ``entropy`` of at least ``threshold`` nats, or ``margin`` of at most ``threshold``.
    At an open place the likeliest ``width`` tokens are followed greedily to where the trace ends
    (with 16 tokens more where it ended by itself), or to a ``stop`` text. ``check``: skipped
    places, drawn with ``seed``, that are measured too. Raises InputError, AbilityError, Cancelled.
    """
    if gate not in ("entropy", "margin"):
        raise InputError("gate", "must be entropy or margin")
    number("threshold", threshold, 0.0, 100.0)
    whole("width", width, 2, 256)
    whole("check", check, 0, 10_000)
    held = trace.alternatives
    if held is None or held.k < width:
        raise InputError("trace", f"keeps fewer than {width} alternatives a token")
    start = max(trace.n_prompt, 1)
    asked = list(range(start, len(trace)))
    signal = trace.column(gate)[start:].astype(np.float64)
    opened = signal >= threshold if gate == "entropy" else signal <= threshold
    gated = [t for t, o in zip(asked, opened, strict=True) if o]
    closed = [t for t, o in zip(asked, opened, strict=True) if not o]
    chosen = np.random.default_rng(seed).permutation(len(closed))[:check]
    measured = sorted([*gated, *(closed[int(i)] for i in chosen)])

    name, key = language_of(trace, language or None), key_of(outcome)
    stops = tuple(s.encode() for s in stop)
    begin = int(trace.tokens.offsets[start])
    own = key(_ended(trace, begin, name, stops, start))
    room = SLACK if trace.finish in ("eos", "stop") else 0
    work: list[Branch] = []
    follows: list[tuple[int, int, float]] = []
    for t in measured:
        for token, logp in zip(held.ids[t][:width].tolist(), held.logprobs[t][:width], strict=True):
            if token >= 0 and token != int(trace.ids[t]):
                ended = token in engine.backend.stop_ids
                left = 0 if ended else len(trace) - t - 1 + room
                work.append(Branch(trace, t, token, {"max_new_tokens": left}))
                follows.append((t, token, float(np.exp(np.float64(logp)))))
    settings = Settings(alternatives=held.k, attention="none", stop=tuple(stop))
    keys: dict[int, str] = {}
    decoded = 0
    for n, run in together(forks(engine, work, settings), FORKS):
        control.step(len(keys), len(work), "branches")
        made = run.trace
        decoded += len(made) - follows[n][0] - 1
        keys[n] = key(_ended(made, begin, name, stops, start))
    places = []
    for t in measured:
        mine = float(np.exp(np.float64(trace.column("logprob")[t])))
        masses = {own: mine}
        for n, (at, _, p) in enumerate(follows):
            if at == t:
                masses[keys[n]] = masses.get(keys[n], 0.0) + p
        low = sum(masses.values()) - masses[own]
        places.append(
            Place(t, low, min(1.0, max(low, 1.0 - masses[own])), own, masses, t in set(gated))
        )
    return Forking(_columns(trace, start, places), tuple(places), len(asked), len(closed), decoded)


def _columns(trace: Trace, start: int, places: Sequence[Place]) -> Trace:
    tv = np.full(len(trace), np.nan, dtype=np.float32)
    state = np.full(len(trace), np.nan, dtype=np.float32)
    state[start:] = SKIPPED
    for p in places:
        tv[p.at], state[p.at] = p.low, GATED if p.gated else CHECKED
    made = trace.with_column("fork_tv", tv, "estimate")
    return made.with_column("fork_gate", state, "estimate")


def _ended(trace: Trace, begin: int, language: str, stops: Sequence[bytes], start: int) -> Ended:
    """A branch as its key sees it: from the first generated token to the first stop text."""
    data = trace.tokens.data
    cuts = [i + len(s) for s in stops if (i := data.find(s, begin)) >= 0]
    return Ended(data[: min(cuts)] if cuts else data, begin, language, trace.finish)
