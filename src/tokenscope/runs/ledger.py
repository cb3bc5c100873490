"""Which intervention changes the outcome most for the least damage: arms over prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.code.viable import judge
from tokenscope.code.views import language_of
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explain.intervals import Interval, interval
from tokenscope.explore.keys import Ended, Key, key_of
from tokenscope.pictures.paper import framed, head
from tokenscope.runs.damage import Damage, damage
from tokenscope.runs.generate import generate
from tokenscope.runs.many import together
from tokenscope.runs.settings import Settings
from tokenscope.trace.display import visible
from tokenscope.trace.drawn import Shown
from tokenscope.trace.edits import Edit
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"  # the arm without edits, which every other is compared with
MOST_PROMPTS, MOST_ARMS, MOST_DRAWS = 1000, 32, 64
FIGURES = ("changed", "parses", "tokens", "price", "nats", "tokens_per_s")
MEANINGS = {
    "changed": "share of runs whose outcome is not that of the same prompt and seed without edits",
    "parses": "share of runs whose text parses, or (cut by its length) could go on to",
    "tokens": "generated tokens", "price": "nats that the edits cost, summed over a run",
    "nats": "mean surprisal of what was generated, to the model as it is",
    "tokens_per_s": "of the median step; runs of one arm go through the model together",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Arm:
    """One set of edits over all prompts. ``values``: figure -> (P, D), prompts and draws.

    ``outcomes``: what was come to and how often, most first. ``means``: with 95 % bootstrap
    intervals over prompts; ``against``: the paired difference from the arm without edits.
    """

    name: str
    edits: tuple[Edit, ...]
    values: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
    outcomes: tuple[tuple[str, int], ...]
    means: Mapping[str, Interval]
    against: Mapping[str, Interval]
    damage: Damage | None


@dataclass(frozen=True, eq=False)
class Ledger(Shown):
    """Arms side by side; ``traces``: arm -> one trace per prompt and draw, in that order."""

    arms: tuple[Arm, ...]
    prompts: int
    draws: int
    outcome: str
    traces: Mapping[str, tuple[Trace, ...]]

    def to_pandas(self) -> pd.DataFrame:
        """One row per arm: means, ends of their intervals, the difference from ``none``, damage."""
        import pandas as pd

        return pd.DataFrame([_row(a) for a in self.arms])

    def to_json(self) -> dict[str, Any]:
        """One plain document; what is not a number is null."""
        runs = self.prompts * self.draws
        return {
            "prompts": self.prompts, "draws": self.draws, "outcome": self.outcome,
            "arms": [
                {
                    "name": a.name, "edits": [e.to_json() for e in a.edits],
                    "outcomes": [
                        {"outcome": visible(k)[:200], "runs": n, "share": n / runs}
                        for k, n in a.outcomes
                    ],
                    "means": {n: _plain(v) for n, v in a.means.items()},
                    "against_none": {n: _plain(v) for n, v in a.against.items()},
                    "damage": None if a.damage is None else {
                        k: _number(v) for k, v in a.damage.to_json().items()
                    },
                }
                for a in self.arms
            ],
            "definitions": dict(MEANINGS),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        ends = [f"{n}_{end}" for n in FIGURES for end in ("low", "high")]
        frame = self.to_pandas().drop(columns=ends)
        frame["arm"] = frame["arm"].map(visible)
        said = f"{self.prompts} prompts, {self.draws} draws; outcome: {self.outcome}"
        table = frame.to_html(index=False, border=0, float_format="{:.3g}".format)
        return framed(head(said) + str(table))


def ledger(
    engine: Engine, prompts: Sequence[str], arms: Mapping[str, Sequence[Edit]], *,
    outcome: str | Key = "syntax", reference: str = "", draws: int = 1, language: str = "",
    settings: Settings = Settings(attention="none", alternatives=0), control: Control = QUIET,
) -> Ledger:  # fmt: skip
    """Decode every prompt under every arm and under none, with the same seeds.

    ``outcome``: when two runs come to the same (see ``explore.keys``). ``draws``: seeds of each
    prompt (more than 1 needs a temperature). ``reference``: a text on which damage is measured.
    Raises InputError, AbilityError, Cancelled.
    """
    if isinstance(prompts, str) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise InputError("prompts", f"must be a list of 1 to {MOST_PROMPTS} prompts")
    if not 1 <= len(arms) <= MOST_ARMS or NONE in arms:
        raise InputError("arms", f"1 to {MOST_ARMS} are needed; none is there by itself")
    if not 1 <= draws <= MOST_DRAWS or (draws > 1 and settings.temperature == 0):
        raise InputError("draws", f"must lie in 1..{MOST_DRAWS}, and be 1 without a temperature")
    key, all_arms = key_of(outcome), {NONE: (), **{n: tuple(e) for n, e in arms.items()}}
    runs = len(prompts) * draws
    traces: dict[str, tuple[Trace, ...]] = {}
    for number, (name, edits) in enumerate(all_arms.items()):
        asked = [
            (p, replace(settings, edits=(*settings.edits, *edits), seed=settings.seed + d))
            for p in prompts for d in range(draws)
        ]  # fmt: skip
        begun = (generate(engine, prompt=p, language=language, settings=s) for p, s in asked)
        done: dict[int, Trace] = {}
        for n, run in together(begun):
            control.step(number * runs + len(done), len(all_arms) * runs, "runs")
            done[n] = run.trace
        traces[name] = tuple(done[n] for n in range(runs))
    keys = {n: [key(_ended(t, language)) for t in ts] for n, ts in traces.items()}
    shape = (len(prompts), draws)
    values = {n: _values(ts, keys[n], keys[NONE], language, shape) for n, ts in traces.items()}
    made = [
        _arm(
            n, all_arms[n], values[n], values[NONE], keys[n],
            damage(engine, all_arms[n], reference, control) if reference and n != NONE else None,
        )
        for n in all_arms
    ]  # fmt: skip
    said = outcome if isinstance(outcome, str) else getattr(outcome, "__name__", "a function")
    return Ledger(tuple(made), len(prompts), draws, said, traces)


def _ended(trace: Trace, language: str) -> Ended:
    start = int(trace.tokens.offsets[trace.n_prompt])
    return Ended(trace.tokens.data, start, language_of(trace, language or None), trace.finish)


def _values(
    traces: Sequence[Trace], keys: Sequence[str], clean: Sequence[str], language: str,
    shape: tuple[int, int],
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:  # fmt: skip
    rows = []
    for trace, mine, other in zip(traces, keys, clean, strict=True):
        figures, n = trace.summary(), trace.n_prompt
        price = float(np.nansum(trace.column("price")[n:])) if "price" in trace.columns else 0.0
        rows.append([
            float(mine != other), _parses(trace, language), figures["generated_tokens"], price,
            figures["mean_surprisal"], figures["tokens_per_s"],
        ])  # fmt: skip
    table = np.array(rows, dtype=np.float64)
    return {name: table[:, i].reshape(shape) for i, name in enumerate(FIGURES)}


def _parses(trace: Trace, language: str) -> float:
    verdict = judge(trace.tokens.data, language_of(trace, language or None))
    return {"viable": 1.0, "not": 0.0, "unknown": math.nan}[verdict]


def _arm(
    name: str, edits: tuple[Edit, ...],
    values: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]],
    clean: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]],
    keys: Sequence[str], hurt: Damage | None,
) -> Arm:  # fmt: skip
    """Draws of one prompt are averaged first: prompts are what is drawn again."""
    with np.errstate(invalid="ignore"):
        mine = {n: v.mean(axis=1) for n, v in values.items()}
        gaps = {n: v - clean[n].mean(axis=1) for n, v in mine.items()}
    return Arm(
        name, edits, values, tuple(Counter(keys).most_common()),
        {n: interval(v) for n, v in mine.items()}, {n: interval(v) for n, v in gaps.items()}, hurt,
    )  # fmt: skip


def _row(arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm.name, "outcomes": len(arm.outcomes)}
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
