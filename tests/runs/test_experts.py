"""Experts of a mixture: the routers' choices against the same arithmetic written out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from tests.families import COMMON, randomise, save_folder
from tokenscope.errors import AbilityError, InputError
from tokenscope.runs.model import Model, load

TEXT = "def add(a, b):\n    return a + b\n"
SIZES = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}


def opened(model: torch.nn.Module, folder: Path) -> Model:
    return load(save_folder(randomise(model), folder))


def test_choices_and_probabilities_are_those_of_the_layers_input(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = opened(hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(
        **SIZES, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24,
        norm_topk_prob=True,
    )), tmp_path / "qwen3_moe")  # fmt: skip
    trace = model.generate(TEXT, max_new_tokens=6)
    found = model.experts(trace)
    module = model.backend.model  # type: ignore[attr-defined]
    inputs = {}
    for n, layer in enumerate(module.model.layers):
        layer.mlp.register_forward_pre_hook(
            lambda _, args, n=n: inputs.update({n: args[0][0].double()})
        )
    with torch.no_grad():
        module(input_ids=torch.tensor([trace.ids[:-1].tolist()]), use_cache=False)
    assert found.layers == model.info.expert_layers == (0, 1, 2)
    for n in found.layers:
        weight = module.model.layers[n].mlp.gate.weight.double()
        p = (inputs[n] @ weight.T).softmax(-1)
        assert np.abs(found.routing.probabilities[n] - p.numpy()).max() < 1e-5
        top = p.topk(2)
        assert (np.sort(found.routing.chosen[n]) == np.sort(top.indices.numpy())).all()
        share = top.values / top.values.sum(-1, keepdim=True)
        assert np.abs(found.routing.weights[n] - share.numpy()).max() < 1e-5
        entropy = -(p * p.log()).sum(-1).numpy()
        assert np.abs(found.entropy()[n, 1:] - entropy).max() < 1e-5
    made = found.with_columns()
    assert np.isnan(made.column("router_entropy")[0])
    mass = np.mean([np.sort(q)[:, -2:].sum(-1) for q in found.routing.probabilities], axis=0)
    assert np.abs(made.column("router_mass")[1:] - mass).max() < 1e-6
    row = found.at(len(trace) - 1)[1]
    assert row["layer"] == 1 and [e["chosen"] for e in row["experts"]] == [True] * 2 + [False] * 4
    shares = found.load().groupby("layer")["share"].sum()
    assert shares.to_numpy() == pytest.approx([2.0] * 3), "every position asks two"
    with pytest.raises(InputError):
        found.at(0)


def test_routers_that_score_alone_and_models_without(tmp_path: Path, bundled: Model) -> None:
    torch.manual_seed(5)
    sizes = {k: v for k, v in SIZES.items() if k not in ("head_dim", "num_key_value_heads")}
    model = opened(hf.DeepseekV3ForCausalLM(hf.DeepseekV3Config(
        **sizes, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, moe_intermediate_size=24, first_k_dense_replace=1, kv_lora_rank=8,
        q_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
    )), tmp_path / "deepseek")  # fmt: skip
    found = model.experts(model.score(TEXT))
    assert found.layers == (1, 2), "the first layer is dense"
    assert np.abs(found.routing.probabilities.sum(-1) - 1).max() < 1e-6
    chosen = np.take_along_axis(
        found.routing.probabilities, found.routing.chosen.astype(np.int64), -1
    )
    assert (chosen.min(-1) >= np.sort(found.routing.probabilities)[..., -2] - 1e-6).all()
    assert bundled.info.expert_layers == ()
    with pytest.raises(AbilityError, match="no mixture"):
        bundled.experts(bundled.score(TEXT))
