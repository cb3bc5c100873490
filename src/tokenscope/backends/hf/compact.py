"""A lean one-token step for plain Llama-like decoders (Llama, Mistral, Qwen2).

On a small model most of a step is the overhead of calling some hundred small modules. Here the
same arithmetic runs over the same weights with about twenty calls a layer; attention rows fall
out of it at no cost. It is used only after the load-time probe has found it equal to the family's
own eager forward; every other model, and every prefill, runs through transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from tokenscope.backends.hf.cache import GrowingLayer

FAMILIES = ("llama", "mistral", "qwen2")
STATIC_ROPE = ("default", "linear", "llama3")
ROPE_ROWS = 1024


@dataclass(slots=True)
class _Layer:
    """Weights of one layer; q, k, v share one matrix, and gate and up another."""

    norm_in: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    norm_mlp: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class CompactStep:
    """The step function of one model. Build it with :func:`compact_step`."""

    def __init__(self, model: Any) -> None:
        config = model.config
        inner = model.model
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        first = inner.layers[0].self_attn
        self.width = int(first.head_dim)
        self.scale = float(first.scaling)
        self.eps = float(config.rms_norm_eps)
        self.embedding = inner.embed_tokens.weight
        self.hidden = int(self.embedding.shape[1])
        self.norm = inner.norm.weight
        self.head = model.lm_head.weight
        self.head_bias = model.lm_head.bias
        self.rotary = inner.rotary_emb
        self.layers = [_fused(layer) for layer in inner.layers]
        self._cos = self._sin = torch.empty(0, self.width)

    def _rope(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and signed sin (1, D) of one position, from a table that grows."""
        if position >= self._cos.shape[0]:
            rows = ROPE_ROWS * (position // ROPE_ROWS + 1)
            at = torch.arange(rows, device=self.embedding.device)[None]
            cos, sin = self.rotary(self.embedding[:1], at)
            half = self.width // 2
            # rotate_half(x) * sin == roll(x, half) * signed sin: one call less a layer
            self._cos = cos[0]
            self._sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)
        return self._cos[position : position + 1], self._sin[position : position + 1]

    def __call__(
        self, token: int, cache: list[GrowingLayer], rows: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One token in: float32 logits (1, V) and, if asked, a row (H, 1, keys) per layer."""
        heads, kv, width = self.heads, self.kv_heads, self.width
        group, turn = heads // kv, width // 2
        cos, sin = self._rope(cache[0].length)
        x = self.embedding[token : token + 1]  # (1, d)
        attention: list[torch.Tensor] = []
        shape = (self.hidden,)
        for w, layer in zip(self.layers, cache, strict=True):
            h = F.rms_norm(x, shape, w.norm_in, self.eps)
            qkv = F.linear(h, w.qkv, w.qkv_bias).view(heads + 2 * kv, width)
            qk = qkv[: heads + kv]
            qk = torch.addcmul(qk * cos, qk.roll(turn, -1), sin)
            keys, values = layer.update(
                qk[heads:].view(1, kv, 1, width), qkv[heads + kv :].view(1, kv, 1, width)
            )
            q = qk[:heads].view(kv, group, width)
            scores = torch.matmul(q, keys[0].transpose(1, 2)).mul_(self.scale)
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32)  # (kv, g, keys)
            if rows:
                attention.append(weights.view(heads, 1, -1))
            o = torch.matmul(weights.to(qkv.dtype), values[0]).view(1, heads * width)
            x = torch.addmm(x, o, w.out)
            h = F.rms_norm(x, shape, w.norm_mlp, self.eps)
            gate, up = F.linear(h, w.gate_up).chunk(2, dim=-1)
            x = torch.addmm(x, F.silu(gate) * up, w.down)
        x = F.rms_norm(x, shape, self.norm, self.eps)
        return F.linear(x, self.head, self.head_bias).float(), attention


def _joined(parts: list[torch.nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One matrix over several; the modules' own weights become views of it (no second copy)."""
    weight = torch.cat([p.weight.data for p in parts])
    at = 0
    for part in parts:
        rows = part.weight.shape[0]
        part.weight.data = weight[at : at + rows]
        at += rows
    bias = None
    if parts[0].bias is not None:
        bias = torch.cat([p.bias.data for p in parts])
    return weight, bias


def _fused(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, bias = _joined([attention.q_proj, attention.k_proj, attention.v_proj])
    gate_up, _ = _joined([mlp.gate_proj, mlp.up_proj])
    return _Layer(
        layer.input_layernorm.weight, qkv, bias, attention.o_proj.weight.t(),
        layer.post_attention_layernorm.weight, gate_up, mlp.down_proj.weight.t(),
    )  # fmt: skip


def compact_step(model: Any) -> CompactStep | None:
    """The lean step where the model's structure allows one, else None."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    plain = (
        getattr(config, "model_type", "") in FAMILIES
        and type(model).__name__.endswith("ForCausalLM")
        and getattr(config, "hidden_act", "") == "silu"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and getattr(config, "pretraining_tp", 1) in (None, 1)
        and isinstance(rope, dict)
        and rope.get("rope_type", "default") in STATIC_ROPE
        and not _windowed(config)
        and not hasattr(model, "hf_device_map")
    )
    if not plain:
        return None
    return CompactStep(model)


def _windowed(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(k != "full_attention" for k in kinds)
    return bool(getattr(config, "sliding_window", None)) and getattr(
        config, "use_sliding_window", True
    )
