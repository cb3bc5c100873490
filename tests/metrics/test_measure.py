"""Columns from full distributions, from their tops, and where logits tie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenscope.backends.protocol import Full, Top
from tokenscope.backends.scripted import ScriptedBackend, hashed, top_of
from tokenscope.decode.engine import Engine
from tokenscope.metrics import measure, metric_names
from tokenscope.runs.generate import Settings, fork, generate

UPPER = {"logprob", "probability", "p_ratio"}  # bounds from above; the others are from below


def logits(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, size)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_a_top_bounds_what_the_whole_says(k: int) -> None:
    z = logits(64, 40)
    came = np.random.default_rng(1).integers(0, 40, 64)
    whole = measure(Full(z), came, 3)
    part = measure(top_of(z, k), came, 3)
    assert set(part.columns) == set(metric_names("top"))
    assert "varentropy" not in part.columns
    for name, values in part.columns.items():
        if part.quality[name] == "exact" or k == 40:
            assert np.abs(values - whole.columns[name]).max() <= 2e-5, name
        elif name in UPPER:
            assert (values >= whole.columns[name] - 1e-5).all(), name
        else:
            assert (values <= whole.columns[name] + 1e-5).all(), name
    assert part.quality["entropy"] == "bound" or k == 40
    assert part.quality["margin"] == ("bound" if k == 1 else "exact")
    assert set(whole.quality.values()) == {"exact"}
    assert (part.ids == whole.ids[:, : min(k, 3)]).all()


def test_a_token_told_outside_the_top_is_exact() -> None:
    z = logits(8, 40)
    came = z.argmin(axis=1)
    top = top_of(z, 4)
    assert measure(top, came, 4).quality["logprob"] == "bound"
    told = torch.log_softmax(torch.from_numpy(z), -1).gather(1, torch.from_numpy(came)[:, None])
    known = measure(Top(top.ids, top.logprobs, top.missing, told[:, 0]), came, 4)
    assert known.quality["logprob"] == known.quality["p_ratio"] == "exact"
    assert known.quality["rank"] == "bound"
    assert (known.columns["rank"] == 5).all()
    assert np.abs(known.columns["logprob"] - told[:, 0].numpy()).max() < 1e-6


def test_a_position_that_nobody_told_is_blank() -> None:
    ids = np.array([[3, -1], [-1, -1]], dtype=np.int32)
    logprobs = np.array([[-0.1, -np.inf], [-np.inf, -np.inf]], dtype=np.float32)
    found = measure(Top(ids, logprobs, np.array([1 - np.exp(-0.1), 1.0])), [3, 7], 2)
    for values in found.columns.values():
        assert np.isfinite(values[0])
        assert np.isnan(values[1])


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_ties_have_one_order_in_rank_and_alternatives(k: int) -> None:
    z = torch.from_numpy(logits(200, 300)).round().to(torch.bfloat16).float()  # many ties
    order = np.argsort(-z.numpy(), axis=1, kind="stable")
    for place in (0, 1, 4, 11, 299):
        found = measure(Full(z), order[:, place], k)
        assert (found.ids == order[:, :k]).all()
        assert (found.columns["rank"] == place + 1).all()
        assert (found.columns["margin"] >= 0).all()


def test_a_branch_by_a_tied_alternative_has_the_rank_of_its_place() -> None:
    host = Engine(ScriptedBackend(lambda ids: hashed(ids).round()))
    base = generate(host, prompt="abc", settings=Settings(max_new_tokens=6)).result()
    assert base.alternatives is not None
    for place, token in enumerate(base.alternatives.ids[5].tolist()):
        branch = fork(host, base, 5, token, Settings(max_new_tokens=1)).result()
        assert branch.column("rank")[5] == place + 1
