"""Attribution against captum, an independent implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pandas as pd
import pytest
import torch

from tests.explain.conftest import IDS
from tokenscope.backends.hf.attention_kernel import Edge
from tokenscope.backends.hf.internals import HeadPatch, Internals, MlpPatch
from tokenscope.errors import InputError
from tokenscope.explain.agreement import kendall, spearman
from tokenscope.explain.faithfulness import FRACTIONS, curves
from tokenscope.explain.gradients import input_x_gradient
from tokenscope.explain.perturb import ablate, attention_knockout, cut_edges, occlude, occlusion
from tokenscope.explain.target import Asked, Target, ask


def eager(asked: Asked) -> Callable[[torch.Tensor], torch.Tensor]:
    """f of embeddings through transformers alone: none of our hooks or kernels."""
    model = asked.internals.model

    def forward(embeds: torch.Tensor) -> torch.Tensor:
        model.set_attn_implementation("eager")
        logits = model(inputs_embeds=embeds, use_cache=False).logits[:, -1]
        a, b = asked.target.a, asked.target.b
        return logits[:, a] - logits[:, b] if b is not None else logits.log_softmax(-1)[:, a]

    return forward


TARGETS = pytest.mark.parametrize("contrast", [None, 8], ids=["logprob", "contrast"])


@TARGETS
def test_input_x_gradient_equals_captum(internals: Internals, contrast: int | None) -> None:
    asked = ask(internals, IDS, Target(12, 3, contrast))
    made = input_x_gradient(asked)
    oracle = captum.attr.InputXGradient(eager(asked))
    wanted = oracle.attribute(asked.embeds().requires_grad_()).sum(-1)[0].detach().numpy()
    assert made.values.shape == (12,) and made.values.dtype == np.float32
    assert np.abs(made.values - wanted).max() <= 1e-5
    assert made.value == pytest.approx(eager(asked)(asked.embeds()).item(), abs=1e-5)


@TARGETS
def test_occlusion_equals_captum(internals: Internals, contrast: int | None) -> None:
    asked = ask(internals, IDS, Target(12, 3, contrast))
    base = internals.mean_embedding().expand_as(asked.embeds())
    mask = torch.arange(12)[None, :, None]
    with torch.no_grad():
        oracle = captum.attr.FeatureAblation(eager(asked))
        wanted = oracle.attribute(asked.embeds(), base, feature_mask=mask)[0, :, 0]
    assert np.abs(occlusion(asked).values - wanted.numpy()).max() <= 1e-5


def test_regions_are_occluded_as_one(llama: Internals) -> None:
    asked = ask(llama, IDS, Target(12, 3, 8))
    groups = [np.asarray([7, 8]), np.asarray([0, 11]), np.asarray([2])]
    embeds = asked.embeds()
    for made, group in zip(occlude(asked, groups), groups, strict=True):
        rows = embeds.clone()
        rows[0, group] = llama.mean_embedding()
        with torch.no_grad():
            wanted = eager(asked)(embeds) - eager(asked)(rows)
        assert made == pytest.approx(float(wanted), abs=1e-5)


def test_knockout_is_the_sum_of_no_other_thing(internals: Internals) -> None:
    asked = ask(internals, IDS, Target(12, 3, 8))
    made = attention_knockout(asked).values
    embeds = asked.embeds()
    for key in (0, 5, 11):
        with torch.no_grad():
            whole = asked.target.of(internals.logits(embeds))
            cut = asked.target.of(internals.logits(embeds, [(None, Edge(11, key))]))
        assert made[key] == pytest.approx(float(whole - cut), abs=1e-5)


def test_ablation_and_edges_are_differences(internals: Internals) -> None:
    asked = ask(internals, IDS, Target(12, 3, 8))
    parts = [HeadPatch(0, 1), HeadPatch(2, 3, "mean"), MlpPatch(1), Edge(11, 4, 1, 2)]
    made = ablate(asked, parts)
    embeds = asked.embeds()
    for value, part in zip(made, parts, strict=True):
        with torch.no_grad():
            without = asked.target.of(internals.logits(embeds, [(None, part)]))
        assert value == pytest.approx(asked.value() - float(without), abs=1e-5)
    earlier = cut_edges(asked, [Edge(6, 2, None, None, "zero"), Edge(11, 2)])
    assert earlier.shape == (2,) and np.isfinite(earlier).all()


def test_rank_agreement_equals_pandas_and_its_formula() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(size=60).round(1), random.normal(size=60).round(1)
    frame = pd.DataFrame({"a": a, "b": b})
    assert spearman(a, b) == pytest.approx(frame.corr("spearman").iloc[0, 1])
    pairs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i in range(60) for j in range(i)]
    x, y = np.asarray(pairs).T
    assert kendall(a, b) == pytest.approx((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    assert np.isnan(spearman(np.ones(4), a[:4])) and np.isnan(kendall(np.ones(4), a[:4]))


@pytest.mark.parametrize("how", ["embedding", "mask"])
def test_faithful_values_beat_random_ones(llama: Internals, how: Any) -> None:
    asked = ask(llama, IDS, Target(13, 3, 8), start=1)
    values = occlusion(asked).values
    made = curves(asked, values, how, {"recency": np.arange(13, dtype=np.float32)}, orders=8)
    assert made.fractions[0] == 0 and made.fractions[-1] == 1
    assert made.deletion[0] == pytest.approx(asked.value(), abs=1e-5)
    assert made.insertion[-1] == pytest.approx(asked.value(), abs=1e-5)
    assert made.deletion[-1] == pytest.approx(float(made.insertion[0]), abs=1e-5)
    assert made.random_deletion.shape == made.random_insertion.shape == (8, len(FRACTIONS))
    if how == "embedding":  # the start token stays
        assert made.deletion[-1] == pytest.approx(asked.prior(), abs=1e-5)
        assert made.deletion_area < made.random_deletion_area
    # by hand: the two best tokens away, through transformers' own eager attention
    order = 1 + np.argsort(-values[1:], kind="stable")
    count = round(FRACTIONS[1] * 12)
    embeds, mask = asked.embeds().clone(), torch.ones(1, 13, dtype=torch.long)
    if how == "embedding":
        embeds[0, order[:count]] = llama.mean_embedding()
    else:
        mask[0, order[:count]] = 0
    llama.model.set_attn_implementation("eager")
    positions = torch.arange(13)[None]
    with torch.no_grad():
        out = llama.model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        )
    wanted = float(asked.target.of(out.logits[:, -1])[0])
    assert made.deletion[1] == pytest.approx(wanted, abs=1e-5)


def test_a_verdict_is_a_rank_among_random_orders(llama: Internals) -> None:
    """A random attribution is one order more: it convinces at most as often as its rank may."""
    asked = ask(llama, IDS, Target(13, 3, 8))
    random = np.random.default_rng(3)
    drawn = [curves(asked, random.normal(size=13).astype(np.float32)) for _ in range(40)]
    assert sum(c.matters for c in drawn) <= 4
    assert np.mean([c.beats_random for c in drawn]) > 0.1  # the old verdict: 1 in 3
    for c in drawn[:3]:
        worse = [np.trapezoid(d, c.fractions) > c.deletion_area for d in c.random_deletion]
        assert c.deletion_quantile == np.mean(worse) and len(worse) == 20


@pytest.mark.parametrize("target", [Target(0, 1), Target(99, 1), Target(3, 4, 4), Target(3, 999)])
def test_bad_targets_name_the_field(llama: Internals, target: Target) -> None:
    with pytest.raises(InputError):
        ask(llama, IDS, target)
