"""Six small random families and the bundled model; most tests run on each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf

from tokenscope.backends.hf.internals import Internals

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other
VOCAB = 97
COMMON = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
IDS = [5, 17, 17, 42, 8, 23, 42, 8, 61, 5, 17, 90, 3, 42]


def _llama() -> Any:
    return hf.LlamaForCausalLM(
        hf.LlamaConfig(**COMMON, intermediate_size=48, num_key_value_heads=2)
    )


def _qwen2() -> Any:
    return hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**COMMON, intermediate_size=48, num_key_value_heads=2)
    )


def _gpt2() -> Any:
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=128)
    )


def _neox() -> Any:
    return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, intermediate_size=48))


def _gemma2() -> Any:
    return hf.Gemma2ForCausalLM(
        hf.Gemma2Config(
            **COMMON, intermediate_size=48, num_key_value_heads=2, head_dim=8,
            query_pre_attn_scalar=8, sliding_window=6, attn_logit_softcapping=5.0,
            final_logit_softcapping=4.0,
        )
    )  # fmt: skip


def _gpt_oss() -> Any:
    return hf.GptOssForCausalLM(
        hf.GptOssConfig(
            **COMMON, intermediate_size=24, num_key_value_heads=2, head_dim=8, sliding_window=6,
            num_local_experts=4, num_experts_per_tok=2,
        )
    )  # fmt: skip


def _bundled() -> Any:
    from tokenscope.backends.hf.load import BUNDLED

    return hf.AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32)


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": _llama, "qwen2": _qwen2, "gpt2": _gpt2, "gpt-neox": _neox, "gemma2": _gemma2,
    "gpt-oss": _gpt_oss, "bundled": _bundled,
}  # fmt: skip


def build(name: str) -> Any:
    """A family with weights large enough that nothing is close to linear or uniform."""
    torch.manual_seed(7)
    model = FAMILIES[name]().eval()
    # the grouped kernel of mixtures of experts has no float64
    model.config._experts_implementation = "eager"
    if name == "bundled":
        return model
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.ndim >= 2 or "sinks" in key or key.endswith("bias"):
                p.normal_(0.0, 0.15)
            else:
                p.add_(torch.randn_like(p) * 0.1)
    return model


@pytest.fixture(scope="session", params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


@pytest.fixture(scope="session")
def internals(model: Any) -> Internals:
    return Internals(model)


@pytest.fixture(scope="session")
def llama() -> Internals:
    return Internals(build("llama"))
