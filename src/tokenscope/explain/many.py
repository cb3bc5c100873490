"""Figures of one explanation that can be averaged over prompts, and their averages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tokenscope.control import Control
from tokenscope.explain.faithfulness import curves
from tokenscope.explain.gradients import F32
from tokenscope.explain.intervals import Interval, interval
from tokenscope.explain.lens import direct_logits
from tokenscope.explain.places import byte_sums, regions_of
from tokenscope.explain.target import Asked
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import CATEGORIES

# tokens before the choice that count as recent
RECENT = 8
# (what, key) -> value of one prompt
Figures = dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Mean:
    """One figure of one method (or "" for the model's own) over the prompts."""

    method: str
    what: str
    key: str
    interval: Interval


def faithful(asked: Asked, values: F32, control: Control) -> Figures:
    """By how many nats (mean over the curve) an attribution beats random orders, both ways."""
    made = curves(asked, values, control=control)
    deleted = made.random_deletion_area - made.deletion_area
    inserted = made.insertion_area - made.random_insertion_area
    return {
        ("faithfulness", "deletion"): deleted,
        ("faithfulness", "insertion"): inserted,
        ("faithfulness", "beats random on both"): float(deleted > 0 and inserted > 0),
    }


def places(trace: Trace, values: F32) -> Figures:
    """Where the size of an attribution lies, as shares of the sum of |v|: per category of the
    syntax (``category``), in the last tokens, and in the largest one (``place``)."""
    size = np.abs(values)
    total = float(size.sum())
    if not total > 0:
        return {}
    made: Figures = {
        ("place", f"last {RECENT} tokens"): float(size[-RECENT:].sum()) / total,
        ("place", "largest token"): float(size.max()) / total,
    }
    regions = regions_of(trace)
    if regions is None:
        return made
    sums = byte_sums(trace.tokens, size)
    share = dict.fromkeys(CATEGORIES, 0.0)
    until = int(trace.tokens.offsets[len(values)])
    for i in np.flatnonzero(regions.leaf & (regions.start < until)):
        held = float(sums[min(int(regions.end[i]), until)] - sums[int(regions.start[i])])
        share[CATEGORIES[int(regions.category[i])]] += held / total
    share["between"] = max(0.0, 1.0 - sum(share.values()))
    return made | {("category", name): x for name, x in share.items()}


def parts(asked: Asked) -> Figures:
    """Direct logit attribution of every head and MLP, nats (see ``direct_logits``)."""
    named = {"head": "head {0}.{1}", "mlp": "mlp {0}"}
    return {
        ("part", named[c.part].format(c.layer, c.head)): c.value
        for c in direct_logits(asked).parts
        if c.part in named
    }


def means(found: Iterable[tuple[str, Figures]]) -> list[Mean]:
    """Every figure's mean over the prompts that have it; order of first appearance."""
    held: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for method, figures in found:
        for (what, key), value in figures.items():
            held[method, what, key].append(value)
    return [Mean(*name, interval(values)) for name, values in held.items()]


def paired(
    found: Sequence[dict[str, Figures]], methods: Sequence[str], what: str = "faithfulness"
) -> list[Mean]:
    """Differences of every method from the first, prompt by prompt: "a - b" as the method."""
    first, made = methods[0], []
    for other in methods[1:]:
        both = [f for f in found if first in f and other in f]
        keys = dict.fromkeys(k for f in both for k in f[first] if k[0] == what)
        for _, key in keys:
            differences = [
                f[other][what, key] - f[first][what, key] for f in both
                if (what, key) in f[other] and (what, key) in f[first]
            ]  # fmt: skip
            made.append(Mean(f"{other} - {first}", what, key, interval(differences)))
    return made
