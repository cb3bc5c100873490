"""int8 weights: the codes against float64, what rounding costs against a second formula, and that
what is explained is what was decoded."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import transformers as hf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import tokenscope as ts
from tests.families import save_folder
from tokenscope.backends import room
from tokenscope.backends.hf.int8 import Int8Linear, exact, rounded
from tokenscope.backends.hf.load import BUNDLED
from tokenscope.backends.hf.quality import compare
from tokenscope.errors import ModelError

TEXT = "def add(a, b):\n    return"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ts.Model, ts.Model]:
    """The bundled model as int8, and as it is; figures are kept in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return ts.load(dtype="int8"), ts.load()


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 40])
def test_a_product_of_codes_is_that_of_float64(rows: int) -> None:
    torch.manual_seed(0)
    like = nn.Linear(96, 64)
    layer = Int8Linear(like)
    weight = like.weight.detach().double()
    layer.put(*rounded(like.weight))
    assert layer.codes.dtype == torch.int8
    step = weight.abs().amax(1) / 127
    assert ((layer.weight.double() - weight).abs() <= step[:, None] * 0.5001).all()
    x = torch.randn(rows, 96)
    want = x.double() @ layer.weight.double().T + like.bias.double()
    with torch.no_grad():
        near = (layer(x).double() - want).abs().max() / want.abs().max()
        assert near < 0.02, near  # bfloat16 on the way in and out
        with exact():
            assert (layer(x).double() - want).abs().max() < 1e-5
    given = torch.randn(rows, 64)
    x.requires_grad_()
    layer(x).backward(given)
    assert x.grad is not None
    near = (x.grad.double() - given.double() @ layer.weight.double()).abs().max()
    assert near < 1e-4, near


def test_the_bundled_model_as_int8(pair: tuple[ts.Model, ts.Model]) -> None:
    small, plain = pair
    assert small.info.dtype == "int8" and small.info.parameters == plain.info.parameters
    assert small.info.weight_bytes < 0.3 * (plain.info.parameters or 0) * 4
    assert 0 < small.info.errors["logprob"] < 0.3
    told = next(n for n in small.info.notes if "mean KL" in n)
    text = (
        "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, x):\n"
    )
    one, two = small.score(text), plain.score(text)
    gap = np.abs(one.column("logprob")[1:] - two.column("logprob")[1:])
    assert 0 < gap.mean() < 0.1, (gap.mean(), told)
    ids = [int(i) for i in small.backend.encode(text).ids]
    with torch.no_grad():
        logits = [m.backend.model(input_ids=torch.tensor([ids])).logits[0] for m in pair]
    found = compare(logits[1], logits[0])
    p, q = (torch.log_softmax(x.double(), -1) for x in (logits[1], logits[0]))
    again = torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True)
    assert found.kl == pytest.approx(float(again), rel=1e-9) and found.kl < 0.02
    assert found.top1 >= 0.9


def test_int8_branches_and_explanations_are_of_the_recorded_run(
    pair: tuple[ts.Model, ts.Model],
) -> None:
    small = pair[0]
    trace = small.generate(TEXT, max_new_tokens=8)
    branch = small.fork(trace, at=trace.n_prompt + 2, token=" x", max_new_tokens=3)
    assert branch.ids[: trace.n_prompt + 2].tolist() == trace.ids[: trace.n_prompt + 2].tolist()
    for method in ("input_x_gradient", "occlusion", "attention_mean"):
        why = small.explain(trace, at=len(trace) - 1, method=method)
        assert np.isfinite(why.values).all()


def test_what_is_not_finite_or_would_not_shrink_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(BUNDLED, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][3, 4] = torch.inf
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.2\.mlp\.up_proj"):
        ts.load(folder, dtype="int8")
    gpt2 = hf.GPT2LMHeadModel(hf.GPT2Config(
        vocab_size=8192, n_embd=128, n_layer=8, n_head=4, bos_token_id=0, eos_token_id=0
    ))  # fmt: skip
    with pytest.raises(ModelError, match="as int8 only"):
        ts.load(save_folder(gpt2, tmp_path / "gpt2"), dtype="int8")


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux")
def test_files_do_not_stay_in_memory_beside_what_is_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, size = tmp_path / "model.safetensors", 64 << 20
    save_file({"w": torch.arange(size // 4, dtype=torch.int32)}, file)
    taken = lambda: psutil.Process().memory_info().rss
    with safe_open(file, "pt") as held:
        tensor = held.get_tensor("w")
        total = tensor.sum()
        before = taken()
        assert room.let_go([file]) >= size
        assert before - taken() > 0.9 * size
        assert tensor.sum() == total  # read again
    asked: list[int] = []
    let_go = room.let_go
    monkeypatch.setattr(room, "let_go", lambda files: asked.append(let_go(files)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ts.load(dtype="int8")
    stored = (BUNDLED / "model.safetensors").stat().st_size
    assert len(asked) > 8 and min(asked) >= stored  # while it is read, not after
