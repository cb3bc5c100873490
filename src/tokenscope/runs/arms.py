"""Arms of edits side by side: figures with intervals, outcomes, damage, and which stand out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.explain.intervals import Interval, interval
from tokenscope.pictures.paper import framed, head
from tokenscope.runs.damage import Damage
from tokenscope.trace.display import visible
from tokenscope.trace.drawn import Shown
from tokenscope.trace.edits import Edit
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"  # the arm without edits, which every other is compared with
FIGURES = ("changed", "parses", "tokens", "price", "nats", "tokens_per_s")
MEANINGS = {
    "changed": "share of runs whose outcome is not that of the same prompt and seed without edits",
    "parses": "share of runs whose text parses, or (cut by its length) could go on to",
    "tokens": "generated tokens", "price": "nats that the edits cost, summed over a run",
    "nats": "mean surprisal of what was generated, to the model as it is",
    "tokens_per_s": "of the median step; runs of one arm go through the model together",
    "kl": "mean KL(edited || own) on the reference text, nats per token",
    "same_top": "share of the reference text's positions whose likeliest token stays",
    "stands_out": "no other arm changes as many outcomes or more for as little damage or less",
}  # fmt: skip
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Came:
    """An outcome of an arm: in how many ``runs`` it came, and its ``share`` with the interval over
    prompts; ``against``: the paired difference of the share from that without edits. ``label``:
    what one of these runs wrote, on one line."""

    key: str
    label: str
    runs: int
    share: Interval
    against: Interval


@dataclass(frozen=True, eq=False)
class Arm:
    """One set of edits over all prompts. ``values``: figure -> (P, D), prompts and draws.

    ``came``: the outcomes, those of the most runs first. ``means``: with 95 % bootstrap intervals
    over prompts; ``against``: the paired difference from the arm without edits.
    """

    name: str
    edits: tuple[Edit, ...]
    values: Mapping[str, F64]
    came: tuple[Came, ...]
    means: Mapping[str, Interval]
    against: Mapping[str, Interval]
    damage: Damage | None

    @property
    def outcomes(self) -> tuple[tuple[str, int], ...]:
        """(key, runs), those of the most runs first."""
        return tuple((c.key, c.runs) for c in self.came)

    def to_json(self) -> dict[str, Any]:
        """A plain dict; what is not a number is null."""
        return {
            "name": self.name, "edits": [e.to_json() for e in self.edits],
            "outcomes": [
                {
                    "outcome": visible(c.key)[:200], "label": visible(c.label), "runs": c.runs,
                    "share": c.share.mean, "interval": _plain(c.share),
                    "against_none": _plain(c.against),
                }
                for c in self.came
            ],
            "means": {n: _plain(v) for n, v in self.means.items()},
            "against_none": {n: _plain(v) for n, v in self.against.items()},
            "damage": None if self.damage is None else {
                k: _number(v) for k, v in self.damage.to_json().items()
            },
        }  # fmt: skip


def stands_out(arms: Sequence[Arm]) -> dict[str, bool]:
    """Name -> whether no other arm with damage measured changes the outcome as often or more for
    as little damage or less, one of the two truly so (Pareto's front)."""
    held = {
        a.name: (a.means["changed"].mean, -a.damage.kl)
        for a in arms if a.damage is not None and math.isfinite(a.damage.kl)
    }  # fmt: skip
    return {
        name: not any(o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in held.values())
        for name, mine in held.items()
    }


def over_prompts(values: F64, clean: F64) -> tuple[Interval, Interval]:
    """(P, D) twice -> the mean with its interval, and the paired difference's. Draws of one prompt
    are averaged first: prompts are what is drawn again."""
    with np.errstate(invalid="ignore"):
        mine, other = values.mean(axis=1), clean.mean(axis=1)
        return interval(mine), interval(mine - other)


@dataclass(frozen=True, eq=False)
class Ledger(Shown):
    """Arms side by side; ``traces``: arm -> one trace per prompt and draw, in that order."""

    arms: tuple[Arm, ...]
    prompts: int
    draws: int
    outcome: str
    traces: Mapping[str, tuple[Trace, ...]] = field(default_factory=dict)

    def to_pandas(self) -> pd.DataFrame:
        """One row per arm: means, ends of their intervals, the difference from ``none``, damage."""
        import pandas as pd

        out = stands_out(self.arms)
        return pd.DataFrame([{**_row(a), "stands_out": out.get(a.name)} for a in self.arms])

    def to_json(self) -> dict[str, Any]:
        """One plain document; what is not a number is null."""
        out = stands_out(self.arms)
        return {
            "prompts": self.prompts, "draws": self.draws, "outcome": self.outcome,
            "arms": [{**a.to_json(), "stands_out": out.get(a.name)} for a in self.arms],
            "definitions": dict(MEANINGS),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        ends = [f"{n}_{end}" for n in FIGURES for end in ("low", "high")]
        frame = self.to_pandas().drop(columns=ends)
        frame["arm"] = frame["arm"].map(visible)
        said = f"{self.prompts} prompts, {self.draws} draws; outcome: {self.outcome}"
        table = frame.to_html(index=False, border=0, float_format="{:.3g}".format)
        return framed(head(said) + str(table))


def _row(arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm.name, "outcomes": len(arm.came)}
    for name in FIGURES:
        held, gap = arm.means[name], arm.against[name]
        row |= {name: held.mean, f"{name}_low": held.low, f"{name}_high": held.high}
        row[f"{name}_vs_none"] = gap.mean
    row["kl"] = arm.damage.kl if arm.damage is not None else math.nan
    row["same_top"] = arm.damage.same_top if arm.damage is not None else math.nan
    return row


def _plain(value: Interval) -> dict[str, float | int | None]:
    found = {"mean": value.mean, "low": value.low, "high": value.high}
    return {**{k: _number(v) for k, v in found.items()}, "n": value.n}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
