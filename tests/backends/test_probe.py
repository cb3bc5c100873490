"""The look at load: 16-bit kernels are judged by float32, and what is dropped is said."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.families import FAMILIES, make
from tokenscope.backends.hf import compact as compact_module
from tokenscope.backends.hf import probe as probing
from tokenscope.backends.hf.compact import CompactStep, compact_step
from tokenscope.backends.hf.load import load as load_backend
from tokenscope.backends.hf.probe import in_float32
from tokenscope.metrics.step import METRICS
from tokenscope.runs.model import Model, load

TEXT = "def parse(line):\n    return [part.strip() for part in line.split(',')]\n"


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(request.param, tmp_path_factory.mktemp("probe") / request.param)


def test_float32_inside_a_16_bit_model(folder: Path) -> None:
    """The upcast pass gives what a float32 copy of the same weights gives, and leaves no trace."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="eager"
    ).eval()
    ids = torch.arange(5)[None] * 31 + 7
    with torch.inference_mode():
        before = model(ids).logits
        with in_float32(model):
            got = model(ids).logits
        after = model(ids).logits
        want = copy.deepcopy(model).float()(ids).logits
    assert got.dtype == torch.float32
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()
    assert torch.equal(before, after)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_keep_the_recorder(folder: Path, dtype: str) -> None:
    backend = load_backend(folder, dtype=dtype)
    assert backend.info.kernel == "tokenscope"
    assert any("checked against float32 (the family's own" in n for n in backend.info.notes)
    assert (backend.compact is not None) == (folder.name != "gpt-oss")


class Wrong(CompactStep):
    """A lean step with a softmax that is too sharp."""

    def __init__(self, model: object) -> None:
        super().__init__(model)
        self.scale *= 1.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_wrong_lean_step_is_dropped_and_said(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(probing, "compact_step", lambda m, _: compact_step(m) and Wrong(m))
    backend = load_backend(dtype=dtype)
    assert backend.compact is None
    assert any(n.startswith("lean step not used: it differs by") for n in backend.info.notes)


def test_packed_weights_are_counted_and_dropped_where_memory_is_short(
    bundled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = 4 * (bundled.info.parameters or 0)
    compact = bundled.backend.compact
    assert 0.9 * plain < compact.packed_bytes <= plain
    own = bundled.info.weight_bytes - compact.packed_bytes
    assert plain <= own < 1.05 * plain  # what modules share counts once
    assert f"packed weights: a second copy of {compact.packed_bytes / 1e6:.0f} MB" in (
        bundled.info.notes
    )
    monkeypatch.setattr(compact_module, "PACKED_SHARE", 1e-6)
    short = load_backend()
    assert short.compact is not None
    assert short.compact.packed_bytes == 0
    assert "weights are not packed a second time: memory is short" in short.info.notes
    assert short.info.weight_bytes == own


def test_nothing_hides_behind_a_maximum() -> None:
    worst = probing._larger(0.5, torch.tensor(float("nan")))
    assert worst == math.inf
    assert probing._larger(worst, torch.tensor(0.1)) == math.inf


def test_error_bars_of_16_bit_models(bundled: Model) -> None:
    assert bundled.info.errors == {}
    model = load(dtype="bfloat16")
    errors = model.info.errors
    assert set(errors) == set(METRICS.names())
    assert all(math.isfinite(e) for e in errors.values())
    assert 0.005 < errors["logprob"] < 0.5
    assert errors["surprisal"] == errors["logprob"]
    assert sum(n.startswith("16 bits: a text scored at once") for n in model.info.notes) == 1
    assert not any(n.startswith("16 bits") for n in bundled.info.notes)
    # They say what they promise: on another text, steps and one prefill differ by about as much.
    made = model.generate(TEXT, max_new_tokens=12)
    model.prefixes.clear()
    scored = model.score(made.text)
    pairs = zip(scored.ids.tolist(), made.ids.tolist(), strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), len(made))
    assert same > made.n_prompt + 2  # a text need not be split as it was written
    gap = np.nanmax(np.abs(scored.column("logprob")[:same] - made.column("logprob")[:same]))
    assert gap <= 3 * errors["logprob"]


def test_a_closed_model_keeps_no_weights() -> None:
    model = load()
    model.generate("def f", max_new_tokens=2)
    module = weakref.ref(model.backend.model)
    weights = weakref.ref(model.backend.model.model.embed_tokens.weight)
    model.close()
    gc.collect()
    assert module() is None
    assert weights() is None
