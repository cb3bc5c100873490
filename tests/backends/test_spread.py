"""A model over several devices: where its layers go, on a model without memory; and, with the CPU
named twice as two devices, that what passes between them gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tokenscope as ts
from tokenscope.backends.hf import spread
from tokenscope.backends.hf.checkpoint import Checkpoint, inspect
from tokenscope.backends.hf.load import BUNDLED
from tokenscope.errors import AbilityError, CapacityError, InputError

TEXT = "def add(a, b):\n    return"
CARDS = [torch.device("cuda", n) for n in range(3)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return inspect(BUNDLED)


def test_layers_fill_the_cards_in_order(checkpoint: Checkpoint) -> None:
    values = {n: t.values for n, t in checkpoint.tensors.items()}
    whole = 2 * sum(values.values())
    rooms = [int(whole * 0.55), int(whole * 0.4), int(whole * 0.4)]
    where = spread.plan(checkpoint, torch.bfloat16, CARDS, rooms)
    on = {n: next((d for m, d in where.items() if n == m or n.startswith(m + ".")), "")
          for n in values}  # fmt: skip
    assert all(on.values()), "every stored tensor has a place"
    for card, most in zip(CARDS, rooms, strict=True):
        assert 2 * sum(v for n, v in values.items() if on[n] == str(card)) <= most
    layers = [
        {d for n, d in on.items() if n.startswith(f"model.layers.{k}.")}
        for k in range(int(checkpoint.config["num_hidden_layers"]))
    ]
    assert all(len(d) == 1 for d in layers), "no layer is cut in two"
    order = [str(c) for c in CARDS]
    numbers = [order.index(next(iter(d))) for d in layers]
    assert numbers == sorted(numbers) and len(set(numbers)) > 1
    with pytest.raises(CapacityError, match="3 devices together"):
        spread.plan(checkpoint, torch.float32, CARDS, rooms)


def test_one_card_is_enough_where_it_fits(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = 2 * checkpoint.values
    for on_one, count in ((2 * need, 1), (need // 2, 3)):
        monkeypatch.setattr(spread, "free", lambda places, n=on_one: [n] * len(places))
        assert len(spread.narrowed(list(CARDS), None, checkpoint, 2)) == count
        assert len(spread.narrowed(list(CARDS), "cuda:0,cuda:1,cuda:2", checkpoint, 2)) == 3
    with pytest.raises(InputError, match="not available"):
        spread.devices("cpu,nowhere:1")


def test_two_devices_say_what_one_says() -> None:
    one, two = ts.load(), ts.load(device="cpu,cpu")
    assert two.info.device == "cpu,cpu" and len(set(two.backend.model.hf_device_map)) > 2
    assert "_hf_hook" in vars(two.backend.model.model.layers[1])
    traces = [m.generate(TEXT, max_new_tokens=12, attention="full") for m in (one, two)]
    assert traces[0].ids.tolist() == traces[1].ids.tolist()
    for name in ("logprob", "entropy", "margin"):
        a, b = (t.column(name)[1:] for t in traces)
        assert np.abs(a - b).max() < 1e-4
    last = len(traces[0]) - 1
    rows = [t.attention.row(2, 1, last) for t in traces if t.attention is not None]
    assert np.abs(rows[0] - rows[1]).max() < 1e-3
    at = traces[0].n_prompt + 3
    branches = [m.fork(t, at=at, token=" x", max_new_tokens=4)
                for m, t in zip((one, two), traces, strict=True)]  # fmt: skip
    assert branches[0].ids.tolist() == branches[1].ids.tolist()
    with pytest.raises(AbilityError):
        two.explain(traces[1], at=last)
    with pytest.raises(InputError, match="one device"):
        ts.load(device="cpu,cpu", dtype="int8")
