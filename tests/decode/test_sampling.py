"""The sampler against transformers' own processors, and against its own promises."""

from __future__ import annotations

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

from tokenscope.decode import draws
from tokenscope.decode.draws import gumbel
from tokenscope.decode.sampling import Sampler, penalised, pick


def truncated(sampler: Sampler, z: torch.Tensor) -> tuple[np.ndarray | None, np.ndarray]:
    ids, logq = draws.truncated([sampler], z[None])
    return None if ids is None else ids[0], logq[0]


def survivors(
    z: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float
) -> np.ndarray:
    """q float64 (V,) by transformers' own processors; 0 where cut."""
    # shifted like ours: the softmax is the same, and so is every rounding
    want = TemperatureLogitsWarper(temperature)(None, (z.double() - z.max())[None])
    if top_k:
        want = TopKLogitsWarper(top_k)(None, want)
    if top_p < 1.0:
        want = TopPLogitsWarper(top_p)(None, want)
    if min_p > 0.0:
        want = MinPLogitsWarper(min_p)(None, want)
    return torch.softmax(want[0], dim=-1).numpy()


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6), temperature=st.sampled_from([0.3, 0.7, 1.0, 1.7]),
    top_k=st.integers(0, 40), top_p=st.floats(0.05, 1.0), min_p=st.floats(0.0, 0.9),
    ties=st.booleans(),
)  # fmt: skip
def test_truncation_equals_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, ties: bool
) -> None:
    z = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, 50)).float()
    z = z.round() if ties else z  # whole numbers: about a dozen distinct logits among fifty
    ids, logq = truncated(Sampler(temperature, top_k, top_p, min_p), z)
    q = np.zeros(50)
    q[ids if ids is not None else slice(None)] = np.exp(logq)
    want = survivors(z, temperature, top_k, top_p, min_p)
    kept, theirs = np.nonzero(q)[0], np.nonzero(want)[0]
    if ties:  # which of equals top-p drops is left to their sort; how many is not
        assert sorted(z[kept].tolist()) == sorted(z[theirs].tolist())
    else:
        assert kept.tolist() == theirs.tolist()
    assert np.abs(np.sort(q) - np.sort(want)).max() < 1e-9


def test_top_k_keeps_what_ties_with_the_last() -> None:
    ids, logq = truncated(Sampler(1.0, top_k=2), torch.tensor([1.0, 3.0, 1.0, 1.0, 0.0]))
    assert ids is not None
    assert ids.tolist() == [0, 1, 2, 3]
    assert np.exp(logq).sum() == pytest.approx(1.0)


def test_a_large_vocabulary_is_cut_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(0, 3, 20_000)).float()
    for top_p in (0.3, 0.9, 0.999):
        fast = truncated(Sampler(1.0, top_p=top_p), z)[0]
        monkeypatch.setattr(draws, "SORTABLE", 1 << 30)
        slow = truncated(Sampler(1.0, top_p=top_p), z)[0]
        monkeypatch.undo()
        assert fast is not None and slow is not None
        assert np.array_equal(fast, slow)


def test_a_block_of_rows_is_drawn_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "SORTABLE", 16)
    rng = np.random.default_rng(4)
    heat = lambda: float(rng.choice([0.0, 0.4, 1.0, 1.6]))
    some = [
        Sampler(heat(), int(rng.integers(0, 9)), float(rng.choice([1.0, 0.5, 0.9])),
                float(rng.choice([0.0, 0.02])), seed=int(rng.integers(0, 4)))
        for _ in range(200)
    ]  # fmt: skip
    z = torch.from_numpy(rng.normal(0, 2, (200, 61)).round(1)).float()  # with ties
    ids, logq = draws.draws(some, list(range(200)), z)
    for n, sampler in enumerate(some):
        token, q = pick(sampler, z[n], [], n)
        assert token == ids[n]
        assert np.isclose(q, logq[n], rtol=0, atol=1e-12, equal_nan=True)
        if sampler.temperature:  # and by hand: the noise of all tokens, where anything is kept
            q = survivors(z[n], sampler.temperature, sampler.top_k, sampler.top_p, sampler.min_p)
            with np.errstate(divide="ignore"):
                best = np.log(q) + gumbel(sampler.seed, n, 61)
            if best[token] < best.max():  # top-p may keep another of equals
                assert z[n, token] in z[n, q == 0] or z[n, int(best.argmax())] in z[n, q == 0]


def test_penalty_equals_transformers() -> None:
    z = torch.randn(50, generator=torch.Generator().manual_seed(0))
    seen = [3, 3, 17, 42]
    want = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([seen]), z[None].clone())[0]
    assert torch.equal(penalised(z, seen, 1.3), want)


@pytest.mark.parametrize(
    "sampler",
    [Sampler(1.0, seed=1), Sampler(0.7, top_k=4, seed=2), Sampler(1.5, top_p=0.9, seed=2**100)],
)
def test_draws_follow_the_distribution(sampler: Sampler) -> None:
    z = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0])
    ids, logq = truncated(sampler, z)
    keep = ids if ids is not None else np.arange(len(z))
    counts = np.bincount([pick(sampler, z, [], t)[0] for t in range(4_000)], minlength=len(z))
    assert counts[keep].sum() == 4_000
    expected = np.exp(logq) * 4_000
    freedom = len(keep) - 1  # chi-square has this mean and twice this variance
    assert ((counts[keep] - expected) ** 2 / expected).sum() < freedom + 4 * (2 * freedom) ** 0.5


def test_noise_depends_on_seed_position_and_token_alone() -> None:
    noise = gumbel(7, 3, 100)
    assert np.array_equal(gumbel(7, 3, 100), noise)
    assert np.array_equal(gumbel(7, 3, 50), noise[:50])
    assert not np.isclose(gumbel(7, 4, 100), noise).any()
    assert not np.isclose(gumbel(8, 3, 100), noise).any()
    # the first values, written down: they are to be the same on every machine and version
    assert noise[:3] == pytest.approx(gumbel_by_hand(7, 3, 3), abs=1e-12)


def gumbel_by_hand(seed: int, position: int, size: int) -> list[float]:
    """Philox4x64-10 written out from the paper (Salmon 2011, figure 2)."""
    mask, out, block = (1 << 64) - 1, [], 0
    while len(out) < size:
        block += 1  # numpy counts up before it makes a block
        k0, k1 = seed & mask, seed >> 64
        c = [block, position, 0, 0]
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(b >> 64) ^ c[1] ^ k0, b & mask, (a >> 64) ^ c[3] ^ k1, a & mask]
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        out += c
    uniform = [((w >> 11) + 0.5) * 2.0**-53 for w in out[:size]]
    return [float(-np.log(-np.log(u))) for u in uniform]


def test_branches_share_their_luck() -> None:
    """Two close distributions draw the same token far more often than two independent draws do."""
    rng = np.random.default_rng(0)
    same = alone = 0
    for t in range(500):
        z = torch.from_numpy(rng.normal(0, 2, 60)).float()
        near = z + torch.from_numpy(rng.normal(0, 0.1, 60)).float()
        mine = pick(Sampler(1.0, seed=5), z, [], t)[0]
        same += mine == pick(Sampler(1.0, seed=5), near, [], t)[0]
        alone += mine == pick(Sampler(1.0, seed=6), near, [], t)[0]
    assert same > 450
    assert alone < 150


@pytest.mark.parametrize("temperature", [1e-300, 1e-8, 1e4])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    token, logprob = pick(Sampler(temperature), torch.tensor([0.0, 500.0, -500.0]), [], 0)
    assert np.isfinite(logprob)
    if temperature < 1:
        assert token == 1


def test_greedy_with_penalty_reports_the_changed_distribution() -> None:
    z = torch.tensor([3.0, 2.9, 0.0])
    token, logprob = pick(Sampler(repetition_penalty=2.0), z, [0], 1)
    assert token == 1
    want = torch.log_softmax(torch.tensor([1.5, 2.9, 0.0]), dim=0)[1]
    assert abs(logprob - float(want)) < 1e-6
    assert np.isnan(pick(Sampler(), z, [0], 1)[1])
