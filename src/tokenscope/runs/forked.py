"""What measuring forking tokens found: places, columns, and what the gate may have missed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokenscope.explore.intervals import wilson
from tokenscope.explore.uncertainty import UNEXPLORED, Masses, measure
from tokenscope.trace.columns import COLUMNS, F32, ColumnSpec
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

Gate = Literal["entropy", "margin", "viable"]
GATES: tuple[Gate, ...] = ("entropy", "margin", "viable")
SKIPPED, CHECKED, GATED = 0.0, 0.5, 1.0  # values of the column fork_gate
FORKS_AT = 0.1  # a skipped place counts as missed from this total variation on
LABEL = 60  # characters of an outcome's label
ADDED = ("fork_tv", "fork_gate", "semantic", "cosmetic")

for _spec in (
    ColumnSpec(
        "fork_tv", "change of outcome", "", "total variation between the outcomes before and after"
        " the token: mass of the alternatives that lead, greedily, to another outcome",
        "after Bigelow et al. 2024, arXiv 2412.07961", lo=0.0, hi=1.0,
    ),
    ColumnSpec(
        "fork_gate", "gate of forking", "", "1: the gate opened and the token was measured, 0.5:"
        " skipped, and measured to check the gate, 0: skipped", "", lo=0.0, hi=1.0,
    ),
    ColumnSpec(
        "semantic", "semantic uncertainty", "nats", "I(A;O): what the token tells of the outcome",
        "Cover & Thomas 2006, 2.5; after Kuhn et al. 2023",
    ),
    ColumnSpec(
        "cosmetic", "cosmetic uncertainty", "nats",
        "H(A|O): what is the same outcome whichever token", "Cover & Thomas 2006, 2.5",
    ),
):  # fmt: skip
    COLUMNS.add(_spec.name, _spec)


@dataclass(frozen=True, slots=True)
class Way:
    """A token of a place, followed: its mass there, the outcome's key, the text from it on."""

    id: int
    mass: float
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """A measured token. ``ways``: the token that was written first, then the alternatives that were
    followed, likeliest first. ``gated``: the gate opened (else: checked at random)."""

    at: int
    ways: tuple[Way, ...]
    gated: bool

    @property
    def own(self) -> str:
        """The key of what was written."""
        return self.ways[0].key

    @property
    def outcomes(self) -> dict[str, float]:
        """Key -> mass, that of what was written first."""
        masses: dict[str, float] = {}
        for way in self.ways:
            masses[way.key] = masses.get(way.key, 0.0) + way.mass
        return masses

    @property
    def low(self) -> float:
        """Mass of the followed alternatives that lead to another outcome: ``fork_tv``."""
        return math.fsum(w.mass for w in self.ways if w.key != self.own)

    @property
    def high(self) -> float:
        """The same with all that was not followed."""
        own = math.fsum(w.mass for w in self.ways if w.key == self.own)
        return min(1.0, max(self.low, 1.0 - own))

    def split(self) -> tuple[float, float]:
        """(semantic, cosmetic), nats: the entropy of the alternatives that are told apart here,
        all that were not followed being one alternative and one outcome more."""
        parts: list[Masses] = [{w.key: w.mass} for w in self.ways]
        parts.append({UNEXPLORED: max(0.0, 1.0 - math.fsum(w.mass for w in self.ways))})
        whole, semantic = measure(parts)
        return semantic, whole - semantic


@dataclass(frozen=True, eq=False)
class Forking:
    """The measured ``places`` of ``written``, of the ``tokens`` from ``start`` on. ``skipped``: how
    many of them the gate skipped; ``decoded``: tokens that it took."""

    written: Trace
    places: tuple[Place, ...]
    start: int
    tokens: int
    skipped: int
    decoded: int

    @cached_property
    def trace(self) -> Trace:
        """``written`` with the columns ``fork_tv``, ``fork_gate`` (1: the gate opened, 0.5: checked
        at random, 0: skipped), ``semantic`` and ``cosmetic``; NaN where nothing was measured.
        All are an ``estimate``: each alternative is followed greedily, as one of many ways on."""
        trace = self.written
        for name, values in self.columns().items():
            trace = trace.with_column(name, values, "estimate")
        return trace

    def columns(self) -> dict[str, F32]:
        """Name -> float32 (T,): the columns that ``trace`` adds."""
        made = {n: np.full(len(self.written), np.nan, dtype=np.float32) for n in ADDED}
        made["fork_gate"][self.start : self.start + self.tokens] = SKIPPED
        for p in self.places:
            made["fork_tv"][p.at] = p.low
            made["fork_gate"][p.at] = GATED if p.gated else CHECKED
            made["semantic"][p.at], made["cosmetic"][p.at] = p.split()
        return made

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

        rows = self.to_json()["places"]
        for row in rows:
            row["outcomes"] = len(row["outcomes"])
            row.pop("alternatives")
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """One plain document."""
        order = sorted(self.places, key=lambda p: (-p.low, p.at))
        return {
            "tokens": self.tokens, "skipped": self.skipped, "skipped_share": self.skipped_share,
            "checked": self.checked, "decoded": self.decoded, "way": "greedy",
            "places": [self.place_json(p) for p in order],
        }  # fmt: skip

    def place_json(self, p: Place) -> dict[str, Any]:
        """A place as a plain dict: its outcomes, most mass first, and what each alternative leads
        to, by the number of the outcome."""
        semantic, cosmetic = p.split()
        keys = sorted(p.outcomes, key=lambda k: -p.outcomes[k])
        texts: dict[str, str] = {}
        for way in p.ways:
            texts.setdefault(way.key, way.text)
        return {
            "at": p.at, "text": self.written.tokens[p.at].text, "fork_tv": p.low, "high": p.high,
            "gated": p.gated, "semantic": semantic, "cosmetic": cosmetic,
            "outcomes": [
                {"label": label_of(texts[k]), "mass": p.outcomes[k], "own": k == p.own}
                for k in keys
            ],
            "alternatives": list(self._alternatives(p, keys)),
            "rest": max(0.0, 1.0 - math.fsum(w.mass for w in p.ways)),
        }  # fmt: skip

    def _alternatives(self, p: Place, keys: list[str]) -> Iterator[dict[str, Any]]:
        for way in p.ways:
            yield {
                "id": way.id, "mass": way.mass, "outcome": keys.index(way.key), "text": way.text,
            }  # fmt: skip


def label_of(text: str) -> str:
    """A short text for an outcome: what its likeliest branch says, on one line."""
    line = " ".join(text.split()) or "(nothing)"
    return line if len(line) <= LABEL else line[: LABEL - 3] + "..."
