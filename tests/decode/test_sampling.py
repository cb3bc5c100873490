"""The sampler against transformers' own processors, and against its own promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tokenscope.decode.sampling import Draw, Sampler, penalised


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6), temperature=st.floats(0.1, 3.0), top_k=st.integers(0, 40),
    top_p=st.floats(0.05, 1.0), min_p=st.floats(0.0, 0.9),
)  # fmt: skip
def test_truncation_equals_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    z = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, 50)).float()
    sampler = Sampler(temperature, top_k, top_p, min_p)
    ids, q = Draw(sampler).truncated(z)
    want = TemperatureLogitsWarper(temperature)(None, z[None].double())
    if top_k:
        want = TopKLogitsWarper(top_k)(None, want)
    if top_p < 1.0:
        want = TopPLogitsWarper(top_p)(None, want)
    if min_p > 0.0:
        want = MinPLogitsWarper(min_p)(None, want)
    p = torch.softmax(want[0], dim=-1).numpy()
    kept = np.nonzero(p)[0]
    if abs(len(kept) - len(ids)) == 1:  # a cumulative sum that ties with top_p at rounding
        return
    assert sorted(ids.tolist()) == kept.tolist()
    assert np.abs(p[ids] - q).max() < 1e-9


def test_penalty_equals_transformers() -> None:
    z = torch.randn(50, generator=torch.Generator().manual_seed(0))
    seen = [3, 3, 17, 42]
    want = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([seen]), z[None].clone())[0]
    assert torch.equal(penalised(z, seen, 1.3), want)


def test_draws_follow_the_distribution() -> None:
    z = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draw = Draw(Sampler(temperature=1.0, seed=1))
    counts = Counter(draw.pick(z, [])[0] for _ in range(20_000))
    p = torch.softmax(z, dim=0).tolist()
    for token, expected in enumerate(p):
        assert abs(counts[token] / 20_000 - expected) < 0.015


@pytest.mark.parametrize("temperature", [1e-300, 1e-8, 1e4])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    token, logprob = Draw(Sampler(temperature)).pick(torch.tensor([0.0, 500.0, -500.0]), [])
    assert np.isfinite(logprob)
    if temperature < 1:
        assert token == 1


def test_greedy_with_penalty_reports_the_changed_distribution() -> None:
    z = torch.tensor([3.0, 2.9, 0.0])
    token, logprob = Draw(Sampler(repetition_penalty=2.0)).pick(z, [0])
    assert token == 1
    want = torch.log_softmax(torch.tensor([1.5, 2.9, 0.0]), dim=0)[1]
    assert abs(logprob - float(want)) < 1e-6
    assert np.isnan(Draw(Sampler()).pick(z, [0])[1])
