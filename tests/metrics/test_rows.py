"""Attention rows reduced to what a trace keeps, against the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenscope.metrics.attention import heaviest, reduce_rows

LAYERS, HEADS, FIRST, COUNT = 2, 3, 6, 5


@pytest.fixture(scope="module")
def rows() -> list[torch.Tensor]:
    """(H, r, keys) per layer, causal; the first key is heavy in one head and light in another."""
    random = np.random.default_rng(2)
    z = random.normal(0, 1.5, (LAYERS, HEADS, COUNT, FIRST + COUNT - 1))
    z[:, 0, :, 0] = 4.0
    z[:, 1, :, 0] = -4.0
    for j in range(COUNT):
        z[:, :, j, FIRST + j :] = -np.inf
    return list(torch.softmax(torch.from_numpy(z), -1).float())


@pytest.mark.parametrize("k", [1, 3, 8])
def test_a_top_record_keeps_the_heaviest_the_first_and_says_what_is_left(rows, k: int) -> None:
    record = reduce_rows(rows, (4, 9), FIRST, "top", k)
    for layer, of_layer in zip((4, 9), rows, strict=True):
        for head in range(HEADS):
            for j in range(COUNT):
                t = FIRST + j
                row = of_layer[head, j, :t].double().numpy()
                kept = set(np.argsort(-row, kind="stable")[:k].tolist()) | {0}
                wanted = np.where([i in kept for i in range(t)], row, 0.0)
                assert record.row(layer, head, t) == pytest.approx(wanted, abs=3e-4)
                left = record.unrecorded(layer, head, t)
                assert left == pytest.approx(1.0 - wanted.sum(), abs=6e-4)


def test_a_full_record_is_the_rows_in_half_precision(rows) -> None:
    record = reduce_rows(rows, (4, 9), FIRST, "full")
    for j in range(COUNT):
        block = record.block(FIRST + j)
        assert block.shape == (LAYERS, HEADS, FIRST + j)
        for layer, of_layer in enumerate(rows):
            assert block[layer] == pytest.approx(of_layer[:, j, : FIRST + j].numpy(), abs=5e-4)
    assert record.unrecorded(4, 0, FIRST) == 0.0


@pytest.mark.parametrize("count", [1, 16, 40])
def test_of_many_rows_the_heaviest_are_those_of_few_and_equals_keep_their_order(count: int) -> None:
    random = np.random.default_rng(7)
    rows = np.round(random.dirichlet(np.full(40, 0.2), (5, 30)).astype(np.float32), 3)
    order = np.argsort(-rows, axis=-1, kind="stable")[..., :count]
    values, where = heaviest(torch.from_numpy(rows), count)
    assert (values.numpy() == np.take_along_axis(rows, order, -1)).all()
    if count < 40:  # of all there are, ``topk`` is asked
        assert (where.numpy() == order).all()
    few, _ = heaviest(torch.from_numpy(rows[0]), count)
    assert (few.numpy() == values[0].numpy()).all()
