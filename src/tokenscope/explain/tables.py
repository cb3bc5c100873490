"""Tables that go with an explanation; each is one more picture of the same choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tokenscope.backends.hf.internals import HeadPatch, MlpPatch, Patch
from tokenscope.control import Control
from tokenscope.errors import AbilityError
from tokenscope.explain.agreement import kendall, spearman
from tokenscope.explain.definitions import MEASURED
from tokenscope.explain.explanation import Row, Table, region_sums
from tokenscope.explain.faithfulness import Curves, How, curves
from tokenscope.explain.gradients import F32
from tokenscope.explain.lens import direct_logits, logit_lens
from tokenscope.explain.methods import mean_attention
from tokenscope.explain.perturb import ablate, attention_knockout
from tokenscope.explain.target import Asked
from tokenscope.explain.tuned_lens import TunedLens
from tokenscope.registry import Registry
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import LEVEL_BITS

MOST_REGIONS = 60
HOWS: tuple[How, ...] = ("embedding", "mask")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a table is made of. ``values`` float32 (at,): the attribution; ``show`` names an id;
    ``tuned``: the model's tuned lens, where one is kept."""

    asked: Asked
    trace: Trace
    values: F32
    show: Callable[[int], str]
    control: Control
    tuned: TunedLens | None = None


TABLES: Registry[Callable[[Asking], Table]] = Registry("table")


@TABLES.register("regions")
def regions(a: Asking) -> Table:
    """Sums of the attribution per line and per syntax region, heaviest first."""
    rows: list[Row] = []
    for level in ("line", *LEVEL_BITS):
        if level != "file":
            rows += region_sums(a.trace, a.values, level)[:MOST_REGIONS]
    return Table("regions", tuple(rows))


@TABLES.register("lens")
def lens(a: Asking) -> Table:
    """One row per layer boundary: the stream before layer 0 is the embedding.

    Where a tuned lens is kept for the model, the rows are its, and ``plain_a``, ``plain_b`` hold
    the logit lens.
    """
    seen = a.asked.internals.capture(a.asked.ids)
    plain = logit_lens(a.asked, seen=seen)
    made = plain
    names = ["logit_lens", "overtake"]
    note = ""
    if a.tuned is not None:
        last = len(seen.residual) - 1
        stream = [h if i == last else a.tuned.translate(i, h) for i, h in enumerate(seen.residual)]
        made = logit_lens(a.asked, seen=replace(seen, residual=stream))
        names.append("tuned_lens")
        kl = f"{a.tuned.tuned_kl.mean():.2f} nats, logit lens {a.tuned.logit_kl.mean():.2f}"
        note = f" Tuned lens (mean KL on {a.tuned.held_out} held-out positions {kl})."
    rows = tuple(
        {
            "layer": i, "title": "embedding" if i == 0 else f"after layer {i - 1}",
            "tokens": [a.show(int(t)) for t in made.ids[i]],
            "logprobs": [float(p) for p in made.logprobs[i]],
            "a": float(made.a[i]), "b": float(made.b[i]), "rank": int(made.rank_a[i]),
            "plain_a": float(plain.a[i]), "plain_b": float(plain.b[i]),
        }
        for i in range(len(made.a))
    )  # fmt: skip
    if made.overtake is None:
        note = "A does not lead at the end." + note
    else:
        note = f"A leads from the row '{rows[made.overtake]['title']}' on." + note
    return Table("lens", rows, tuple(names), note)


@TABLES.register("components")
def components(a: Asking) -> Table:
    """Direct logit attribution of every head, MLP and bias."""
    made = direct_logits(a.asked)
    rows = tuple(
        {"part": c.part, "layer": c.layer, "head": c.head, "value": c.value} for c in made.parts
    )
    what = "z_A minus the mean logit" if made.centred else "z_A - z_B"
    note = f"The parts add up to {what} = {made.total:.4f} with an error of {made.error:.1e}."
    if made.before_softcap:
        note += " This model caps its final logits; the parts explain the logits before the cap."
    return Table("components", rows, ("direct_logit",), note)


@TABLES.register("ablation")
def ablation(a: Asking) -> Table:
    """Effect of taking out every head and every MLP, one at a time, by their mean."""
    patches: list[Patch] = []
    if all(p.heads == 0 and p.mlp is None for p in a.asked.internals.anatomy.layers):
        raise AbilityError("this model has neither attention heads nor MLPs to take out")
    for layer in a.asked.internals.anatomy.layers:
        patches += [HeadPatch(layer.index, h, "mean") for h in range(layer.heads)]
        if layer.mlp is not None:
            patches.append(MlpPatch(layer.index, "mean"))
    effects = ablate(a.asked, patches, a.control)
    rows = tuple(
        {
            "part": "head" if isinstance(p, HeadPatch) else "mlp", "layer": p.layer or 0,
            "head": p.head if isinstance(p, HeadPatch) else -1, "effect": float(e),
        }
        for p, e in zip(patches, effects, strict=True)
    )  # fmt: skip
    note = "Each part is replaced by its mean over this text's own positions."
    return Table("ablation", rows, ("ablation",), note)


@TABLES.register("edges")
def edges(a: Asking) -> Table:
    """The cause beside the picture: what the last position looked at, and what each look does."""
    looked = mean_attention(a.asked, a.control).values
    effect = attention_knockout(a.asked, a.control).values
    rows = tuple(
        {"index": i, "attention": float(x), "effect": float(y), "value": float(v)}
        for i, (x, y, v) in enumerate(zip(looked, effect, a.values, strict=True))
    )
    size = np.abs(effect)
    note = (
        f"Rank agreement over {len(rows)} tokens: attention with the size of the effect rho = "
        f"{spearman(looked, size):.2f}, tau = {kendall(looked, size):.2f}; the attribution's "
        f"size with the size of the effect rho = {spearman(np.abs(a.values), size):.2f}."
    )
    names = ("attention_mean", "attention_knockout", "rank_agreement")
    return Table("edges", rows, names, note)


@TABLES.register("faithfulness")
def faithfulness(a: Asking) -> Table:
    """Deletion and insertion of the attribution's best tokens, beside random orders, recency and
    attention, with tokens replaced and with tokens hidden from attention."""
    others = {"recency": np.arange(a.asked.n, dtype=np.float32)}
    if a.asked.internals.anatomy.attention_layers:
        others["attention"] = mean_attention(a.asked, a.control).values
    rows: list[Row] = []
    notes = []
    for how in HOWS:
        if how == "mask" and not a.asked.internals.anatomy.attention_layers:
            continue
        made = curves(a.asked, a.values, how, others, control=a.control)
        rows += _curve_rows(made)
        notes.append(_verdict(made))
    notes.append(f"{MEASURED}.")
    definitions = ("deletion", "insertion", "faithfulness_quantile")
    return Table("faithfulness", tuple(rows), definitions, " ".join(notes))


def _curve_rows(made: Curves) -> list[Row]:
    rows: list[Row] = []
    for i, x in enumerate(made.fractions):
        row: dict[str, object] = {
            "perturbation": made.how, "fraction": float(x),
            "deletion": float(made.deletion[i]), "insertion": float(made.insertion[i]),
        }  # fmt: skip
        by_chance = {"deletion": made.random_deletion, "insertion": made.random_insertion}
        for name, drawn in by_chance.items():
            row[f"random_{name}"] = float(drawn[:, i].mean())
            row[f"random_{name}_low"] = float(drawn[:, i].min())
            row[f"random_{name}_high"] = float(drawn[:, i].max())
        for name, (deletion, insertion) in made.others.items():
            row[f"{name}_deletion"] = float(deletion[i])
            row[f"{name}_insertion"] = float(insertion[i])
        rows.append(row)
    return rows


def _verdict(made: Curves) -> str:
    what = {"embedding": "Tokens replaced", "mask": "Tokens hidden from attention"}[made.how]
    low = min(made.deletion_quantile, made.insertion_quantile)
    if made.matters:
        word = "the attribution points at what matters"
    elif low >= 0.5:
        word = "the attribution does better than most random orders, but chance is not ruled out"
    else:
        word = "the attribution does no better than chance"
    out = (
        f"{what}: {word}. It beats {made.deletion_quantile:.0%} of {len(made.random_deletion)} "
        f"random orders at deletion (area {made.deletion_area:.2f}, random "
        f"{made.random_deletion_area:.2f}, lower is better) and {made.insertion_quantile:.0%} at "
        f"insertion (area {made.insertion_area:.2f}, random {made.random_insertion_area:.2f}, "
        "higher is better)"
    )
    lost = [n for n in made.others if not made.beats(n)]
    return f"{out}; not on both curves better than: {', '.join(lost)}." if lost else f"{out}."
