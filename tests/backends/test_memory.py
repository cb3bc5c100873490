"""What branches hold: one prefix and their own tails, exactly counted, never written by another."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from tokenscope.backends.hf.cache import MOST_PARTS, GrowingLayer
from tokenscope.runs.bench_many import branches, concurrent, fork
from tokenscope.runs.model import Model


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(1, 2, n, 4, generator=torch.Generator().manual_seed(seed))


def whole(layer: GrowingLayer) -> torch.Tensor:
    return torch.cat([k for k, _ in layer.views()], dim=2)


@pytest.mark.parametrize("tail", [10, 16, 40])
def test_branches_cost_their_tails(bundled: Model, tail: int) -> None:
    found = fork(bundled, forks=40, prompt_tokens=300, tail_tokens=tail)
    own = found["tails_bytes"]
    room = found["prefix_bytes"] // 8 + 64 * bundled.info.state_bytes_per_token
    assert found["held_bytes"] <= found["prefix_bytes"] + room + 1.2 * own
    gc.collect()


def test_any_order_of_appending_forking_and_going_back_is_right() -> None:
    random = np.random.default_rng(5)
    layers = [(GrowingLayer(), torch.empty(1, 2, 0, 4))]
    for n in range(600):
        at = int(random.integers(len(layers)))
        layer, want = layers[at]
        action = random.random()
        if action < 0.55 or not layer.length:
            fresh = rows(int(random.integers(1, 12)), n)
            got, _ = layer.update(fresh, fresh + 1)
            want = torch.cat([want, fresh], dim=2)
            assert torch.equal(got, want)
        elif action < 0.8:
            count = int(random.integers(0, layer.length + 1))
            layers.append((layer.forked(count), want[:, :, :count]))
        else:
            count = int(random.integers(0, min(layer.length, 9) + 1))
            layer.back(count)
            want = want[:, :, : want.shape[2] - count]
        layers[at] = (layer, want)
        if len(layers) > 12:
            layers.pop(int(random.integers(12)))
        for held, expected in layers:
            assert held.length == expected.shape[2]
            assert len(held.parts) <= MOST_PARTS
            if held.length:
                assert torch.equal(whole(held), expected)


def test_runs_at_once_give_what_they_give_alone(bundled: Model) -> None:
    found = concurrent(bundled, runs=4, prompt_tokens=24, new_tokens=12)
    assert found["equal_ids"] + found["near_ties"] == 4
    assert found["ratio_speculate_auto"] > 0
    assert found["worst"] is not None
    assert found["worst"] <= 1e-4


def test_branches_at_once_give_what_they_give_alone(bundled: Model) -> None:
    found = branches(bundled, runs=6, prompt_tokens=24, new_tokens=8)
    assert found["equal_ids"] + found["near_ties"] == 6
    assert found["ratio"] > 0 and found["ratio_alone_speculates"] > 0
