"""The bundled model as a float32 GGUF file, by the ``gguf`` package: a real file to read."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

from tokenscope.backends.hf.load import BUNDLED


def write(path: Path, folder: Path = BUNDLED) -> Path:
    """Write a Llama folder (byte-level BPE) as float32 GGUF."""
    config = json.loads((folder / "config.json").read_text())
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_name("bundled")
    out.add_file_type(0)
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(kv)
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_dimension_count(config["hidden_size"] // heads)
    out.add_rope_freq_base(float(config.get("rope_parameters", config).get("rope_theta", 10_000)))
    out.add_vocab_size(config["vocab_size"])
    _vocabulary(out, folder, int(config["vocab_size"]))
    for name, tensor in load_file(str(folder / "model.safetensors")).items():
        values = tensor.astype(np.float32)
        if name.endswith("q_proj.weight"):
            values = _paired(values, heads)
        elif name.endswith("k_proj.weight"):
            values = _paired(values, kv)
        out.add_tensor(_name(name), values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _vocabulary(out: gguf.GGUFWriter, folder: Path, size: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    special = {t["content"]: t["id"] for t in tokenizer["added_tokens"] if t["special"]}
    by_id = {i: s for s, i in {**vocabulary, **special}.items()}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([by_id.get(i, f"<unused {i}>") for i in range(size)])
    kinds = [
        gguf.TokenType.CONTROL if by_id.get(i) in special
        else gguf.TokenType.NORMAL if i in by_id else gguf.TokenType.UNUSED
        for i in range(size)
    ]  # fmt: skip
    out.add_token_types(kinds)
    merges = tokenizer["model"]["merges"]
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    out.add_eos_token_id(special["<|endoftext|>"])
    out.add_bos_token_id(special["<|endoftext|>"])
    out.add_add_bos_token(False)


def _paired(weight: np.ndarray, heads: int) -> np.ndarray:  # type: ignore[type-arg]
    """Rows from rotate-half order (transformers) to neighbouring pairs (ggml)."""
    rows, width = weight.shape
    half = rows // heads // 2
    return weight.reshape(heads, 2, half, width).swapaxes(1, 2).reshape(rows, width)


def _name(name: str) -> str:
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }  # fmt: skip
    if name in fixed:
        return fixed[name]
    _, _, layer, *rest = name.split(".")
    parts = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    return f"blk.{layer}.{parts['.'.join(rest[:-1])]}.weight"
