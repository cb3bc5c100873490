"""Layers that stay on the disk: the same numbers, no more resident than allowed. Whether a whole
process stays below its ceiling: ``bench/plan.py``."""

from __future__ import annotations

import pytest
import torch

import tokenscope as ts
from tokenscope.backends.hf.checkpoint import inspect
from tokenscope.backends.hf.load import BUNDLED
from tokenscope.backends.hf.offload import load_streaming, read
from tokenscope.errors import AbilityError, CapacityError, InputError, ModelError

TEXT = "def add(a, b):\n    return"


def test_a_streamed_model_says_the_same() -> None:
    checkpoint = inspect(BUNDLED)
    plain = ts.load()
    ids = torch.tensor([[int(i) for i in plain.backend.encode(TEXT).ids]])
    table = 4 * 8192 * 256
    for resident, most in ((0, 0), (table + 2_000_000, table + 2_000_000)):
        model, streamed = load_streaming(checkpoint, torch.float32, resident)
        held = {p.data_ptr(): p.nbytes for p in model.parameters() if p.device.type != "meta"}
        assert sum(held.values()) <= most and streamed > 0
        with torch.inference_mode():
            want = plain.backend.model(input_ids=ids, use_cache=False).logits
            got = model(input_ids=ids, use_cache=False).logits
        assert (want - got).abs().max() < 1e-4
    with pytest.raises(CapacityError, match="token table"):
        load_streaming(checkpoint, torch.float32, 1_000_000)
    name, stored = next(iter(checkpoint.tensors.items()))
    from safetensors import safe_open

    with safe_open(stored.file, "pt") as file:
        assert torch.equal(file.get_tensor(name), read(stored))


def test_what_a_ceiling_cannot_hold_is_refused_plainly() -> None:
    with pytest.raises(CapacityError, match="too little"):
        ts.load(max_memory=300_000_000)
    with pytest.raises(InputError, match="dtype"):
        ts.load(dtype="int7")
    with pytest.raises((AbilityError, ModelError, CapacityError)):
        ts.load(dtype="int8", max_memory=100_000_000)
