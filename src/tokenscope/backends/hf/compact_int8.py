"""The lean step over int8 codes: the same few calls, a quarter of the bytes read a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tokenscope.backends.hf.compact import CompactStep, _Layer
from tokenscope.backends.hf.int8 import Int8Embedding, Int8Linear, Table, product


class CodedMatrix:
    """Codes (out, in) with scales; multiplied like ``compact.Matrix``. Layers that take the same
    input share one: their own codes become views of it."""

    packed_bytes = 0

    def __init__(self, parts: Sequence[Int8Linear]) -> None:
        if len(parts) == 1:
            self.weight, self.scales = parts[0].codes, parts[0].scales
        else:
            self.weight = torch.cat([p.codes for p in parts])
            self.scales = torch.cat([p.scales for p in parts])
            at = 0
            for part in parts:
                end = at + part.codes.shape[0]
                part.codes, part.scales = self.weight[at:end], self.scales[at:end]
                at = end
        biases: list[Tensor] = [p.bias for p in parts if p.bias is not None]
        self.bias = torch.cat(biases) if biases else None

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) to float32 (n, out)."""
        out = product(x, self.weight, self.scales)
        return out if self.bias is None else out.add_(self.bias)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """``to`` and the product."""
        return self(x).add_(to)


class Rows(Table):
    """The token table as the lean step looks at it."""

    def new_empty(self, *shape: int) -> Tensor:
        """An empty float32 tensor where the table is."""
        return torch.empty(*shape, device=self.device)


class Int8Step(CompactStep):
    """The step of a model whose every matrix became int8; its norms are float32."""

    def __init__(self, model: Any) -> None:
        config, inner = model.config, model.model
        first = inner.layers[0].self_attn
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width, self.scale = int(first.head_dim), float(first.scaling)
        self.eps = float(config.rms_norm_eps)
        table = inner.embed_tokens
        self.embedding = Rows(table.codes, table.scales)
        self.hidden = int(table.codes.shape[1])
        self.norm, self.rotary = inner.norm.weight, inner.rotary_emb
        self.head = CodedMatrix([model.lm_head])  # type: ignore[assignment]
        self.layers = [_layer(x) for x in inner.layers]
        self.packed_bytes, self.note = 0, ""
        self._cos = self._sin = torch.empty(0, self.width)
        self._slab = self._last = None


def suits(model: Any) -> bool:
    """Whether all that the step multiplies by is int8, on a CPU."""
    inner = model.model
    parts = [m for x in inner.layers for m in (*_attention(x), *_mlp(x))]
    return (
        type(inner.embed_tokens) is Int8Embedding and inner.embed_tokens.factor is None
        and all(type(m) is Int8Linear for m in (*parts, model.lm_head))
        and model.lm_head.codes.device.type == "cpu"
    )  # fmt: skip


def _attention(layer: Any) -> list[Any]:
    held = layer.self_attn
    return [held.q_proj, held.k_proj, held.v_proj, held.o_proj]


def _mlp(layer: Any) -> list[Any]:
    return [layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj]


def _layer(layer: Any) -> _Layer:
    q, k, v, o = _attention(layer)
    gate, up, down = _mlp(layer)
    made: Any = _Layer
    held: _Layer = made(
        layer.input_layernorm.weight, CodedMatrix([q, k, v]), CodedMatrix([o]),
        layer.post_attention_layernorm.weight, CodedMatrix([gate, up]), CodedMatrix([down]),
    )  # fmt: skip
    return held
