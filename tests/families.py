"""Small random models of many families, as folders that ``load`` takes: real code, no hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tokenscope.backends.hf.load import BUNDLED

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other
VOCAB = 8192
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def _gemma2() -> Any:
    return hf.Gemma2ForCausalLM(hf.Gemma2Config(
        **COMMON, intermediate_size=48, num_key_value_heads=2, head_dim=8,
        query_pre_attn_scalar=8, sliding_window=6, attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
    ))  # fmt: skip


def _gpt_oss() -> Any:
    return hf.GptOssForCausalLM(hf.GptOssConfig(
        **COMMON, intermediate_size=24, num_key_value_heads=2, head_dim=8, sliding_window=6,
        num_local_experts=4, num_experts_per_tok=2,
    ))  # fmt: skip


def _gpt2() -> Any:
    return hf.GPT2LMHeadModel(hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=256, bos_token_id=0,
        eos_token_id=0,
    ))  # fmt: skip


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(**COMMON, intermediate_size=48, num_key_value_heads=2)
    ),
    "qwen2": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**COMMON, intermediate_size=48, num_key_value_heads=2)
    ),
    "mistral": lambda: hf.MistralForCausalLM(
        hf.MistralConfig(
            **COMMON, intermediate_size=48, num_key_value_heads=2, head_dim=8, sliding_window=6
        )
    ),
    "gpt2": _gpt2,
    "gpt-neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, intermediate_size=48)),
    "gemma2": _gemma2,
    "gpt-oss": _gpt_oss,
}


def randomise(model: Any, seed: int = 7) -> Any:
    """Weights large enough that nothing is close to linear or uniform."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.ndim >= 2 or "sinks" in key or key.endswith("bias"):
                p.normal_(0.0, 0.15)
            else:
                p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def save_folder(model: Any, folder: Path) -> Path:
    """The model as a folder with the bundled tokenizer."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, folder / name)
    return folder


def make(name: str, folder: Path) -> Path:
    """A folder that holds a random model of one family."""
    torch.manual_seed(1)
    return save_folder(randomise(FAMILIES[name]()), folder)
