"""What the lean step has to know of a family: where a layer's matrices and norms are, and what is
done between them. One row of ``READERS`` per model type; a config that asks for anything else than
what is read here gets no lean step, and what is read is believed only after the probe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

Act = Callable[[torch.Tensor], torch.Tensor]
STATIC_ROPE = ("default", "linear", "llama3")
_TANH: Act = partial(F.gelu, approximate="tanh")
ACTS: dict[str, Act] = {
    "silu": F.silu, "gelu": F.gelu, "gelu_new": _TANH, "gelu_pytorch_tanh": _TANH,
}  # fmt: skip
SHORTEST = 6  # a sliding window below that is not worth a lean step


class Norm:
    """A root mean square or layer norm over the last dimension."""

    __slots__ = ("bias", "eps", "least", "mean", "scaled", "shape", "weight")

    def __init__(self, module: Any, plus_one: bool = False) -> None:
        """``plus_one``: what is stored is the weight less one (Gemma)."""
        weight = module.weight.data
        self.weight = weight + 1.0 if plus_one else weight
        self.shape = tuple(weight.shape)
        self.mean = isinstance(module, torch.nn.LayerNorm)
        self.bias = module.bias.data if self.mean and module.bias is not None else None
        eps = getattr(module, "eps", None)
        self.eps = float(module.variance_epsilon if eps is None else eps)
        # w x / sqrt(|x|^2 / d + eps) == sqrt(d) w x / hypot(|x|, sqrt(d eps)): half the calls
        self.scaled: torch.Tensor | None = None
        if not self.mean and weight.device.type == "cpu" and weight.dtype is torch.float32:
            size = math.prod(self.shape)
            self.scaled = self.weight * math.sqrt(size)
            self.least = torch.tensor(math.sqrt(size * self.eps))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., d) to the same."""
        if self.mean:
            return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)
        if self.scaled is not None and x.dtype is torch.float32:
            size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(self.least)
            return torch.div(x, size).mul_(self.scaled)
        return F.rms_norm(x, self.shape, self.weight, self.eps)


@dataclass(slots=True)
class Modules:
    """One layer as the family has it. ``qkv``, ``up``: modules that take the same input, in order.
    ``qk``: norms of queries and of keys, each over one head. ``after``, ``after_mlp``: norms of
    what attention and MLP give, before it is added."""

    norm: Norm
    qkv: list[Any]
    out: Any
    norm_mlp: Norm
    up: list[Any]
    down: Any
    qk: tuple[Norm, Norm] | None = None
    after: Norm | None = None
    after_mlp: Norm | None = None


@dataclass(slots=True)
class Family:
    """A model's layers and what stands around them.

    ``interleaved``: q, k and v of one head stand together in ``qkv`` (GPT-NeoX). ``gated``: the
    activation of the first half times the second. ``parallel``: the MLP reads what attention reads.
    ``factor`` of what the token table gives; ``positions``: a table that is added to it;
    ``softcap`` of attention scores, ``cap`` of logits: c tanh(x / c). ``limit``: the sliding
    window; up to there it hides nothing.
    """

    layers: list[Modules]
    norm: Norm
    heads: int
    kv_heads: int
    width: int
    scale: float
    act: Act
    rotary: Any = None
    gated: bool = True
    interleaved: bool = False
    parallel: bool = False
    factor: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    softcap: float | None = None
    cap: float | None = None
    limit: int | None = field(default=None)


def read(model: Any) -> Family | None:
    """The family of a model, None where it has no lean step. Changes nothing."""
    config = model.config
    reader = READERS.get(getattr(config, "model_type", ""))
    rope = getattr(config, "rope_parameters", None) or {}
    plain = (
        reader is not None
        and type(model).__name__.endswith(("ForCausalLM", "LMHeadModel"))
        and isinstance(rope, dict)
        and rope.get("rope_type", "default") in STATIC_ROPE
        and not hasattr(model, "hf_device_map")
    )
    if not plain or reader is None:
        return None
    limit = _window(config)
    if limit is not None and limit < SHORTEST:
        return None
    found = reader(model, config)
    if found is not None:
        found.limit = limit
    return found


def _window(config: Any) -> int | None:
    """Tokens up to which no sliding window hides anything; None without one, 0 for other kinds."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds:
        if any(k not in ("full_attention", "sliding_attention") for k in kinds):
            return 0
        return int(window or 0) if "sliding_attention" in kinds else None
    used = getattr(config, "use_sliding_window", True)
    return int(window) if window and used else None


def _llama(model: Any, config: Any) -> Family | None:
    """Llama, Mistral, Qwen2 and Qwen3 (a norm for each head's queries and keys)."""
    if getattr(config, "mlp_bias", False) or getattr(config, "attention_bias", False):
        return None
    if getattr(config, "pretraining_tp", 1) not in (None, 1) or config.hidden_act != "silu":
        return None
    layers = [_gated_layer(x, False) for x in model.model.layers]
    return _with_rope(model.model, config, layers, ACTS["silu"])


def _gated_layer(layer: Any, plus_one: bool) -> Modules:
    attention, mlp = layer.self_attn, layer.mlp
    norms = [getattr(attention, n, None) for n in ("q_norm", "k_norm")]
    q, k = (None if n is None else Norm(n, plus_one) for n in norms)
    return Modules(
        Norm(layer.input_layernorm, plus_one),
        [attention.q_proj, attention.k_proj, attention.v_proj], attention.o_proj,
        Norm(layer.post_attention_layernorm, plus_one), [mlp.gate_proj, mlp.up_proj],
        mlp.down_proj, None if q is None or k is None else (q, k),
    )  # fmt: skip


def _with_rope(inner: Any, config: Any, layers: list[Modules], act: Act) -> Family:
    first = inner.layers[0].self_attn
    return Family(
        layers, Norm(inner.norm), int(config.num_attention_heads),
        int(config.num_key_value_heads), int(first.head_dim), float(first.scaling), act,
        inner.rotary_emb,
    )  # fmt: skip


def _gemma(model: Any, config: Any) -> Family | None:
    """Gemma and Gemma2: norms of one plus the weight, a factor on the table, and in Gemma2 norms
    after each part and caps."""
    inner = model.model
    act = ACTS.get(getattr(config, "hidden_activation", None) or config.hidden_act)
    if config.attention_bias or act is None:
        return None
    if getattr(config, "use_bidirectional_attention", None):
        return None
    layers = []
    for layer in inner.layers:
        made = _gated_layer(layer, True)
        if hasattr(layer, "pre_feedforward_layernorm"):
            made.after = made.norm_mlp
            made.norm_mlp = Norm(layer.pre_feedforward_layernorm, True)
            made.after_mlp = Norm(layer.post_feedforward_layernorm, True)
        layers.append(made)
    found = _with_rope(inner, config, layers, act)
    found.norm = Norm(inner.norm, True)
    found.factor = inner.embed_tokens.embed_scale
    found.softcap = getattr(config, "attn_logit_softcapping", None)
    found.cap = getattr(config, "final_logit_softcapping", None)
    return found


def _phi3(model: Any, config: Any) -> Family | None:
    """Phi3: q, k and v are one matrix, and gate and up another."""
    inner = model.model
    act = ACTS.get(config.hidden_act)
    if act is None:
        return None
    layers = [
        Modules(
            Norm(x.input_layernorm), [x.self_attn.qkv_proj], x.self_attn.o_proj,
            Norm(x.post_attention_layernorm), [x.mlp.gate_up_proj], x.mlp.down_proj,
        )
        for x in inner.layers
    ]  # fmt: skip
    return _with_rope(inner, config, layers, act)


def _starcoder2(model: Any, config: Any) -> Family | None:
    """Starcoder2: layer norms, biases, an MLP without a gate."""
    inner = model.model
    act = ACTS.get(config.hidden_act)
    if act is None:
        return None
    layers = []
    for x in inner.layers:
        held = x.self_attn
        layers.append(Modules(
            Norm(x.input_layernorm), [held.q_proj, held.k_proj, held.v_proj], held.o_proj,
            Norm(x.post_attention_layernorm), [x.mlp.c_fc], x.mlp.c_proj,
        ))  # fmt: skip
    found = _with_rope(inner, config, layers, act)
    found.gated = False
    return found


def _gpt2(model: Any, config: Any) -> Family | None:
    """GPT-2: a table of positions, no rotation."""
    inner = model.transformer
    act = ACTS.get(config.activation_function)
    if act is None or config.scale_attn_by_inverse_layer_idx or config.reorder_and_upcast_attn:
        return None
    if config.add_cross_attention:
        return None
    layers = [
        Modules(
            Norm(x.ln_1), [x.attn.c_attn], x.attn.c_proj, Norm(x.ln_2), [x.mlp.c_fc], x.mlp.c_proj
        )
        for x in inner.h
    ]
    first = inner.h[0].attn
    heads = int(config.n_head)
    return Family(
        layers, Norm(inner.ln_f), heads, heads, int(first.head_dim), float(first.scaling), act,
        gated=False, positions=inner.wpe.weight,
    )  # fmt: skip


def _gpt_neox(model: Any, config: Any) -> Family | None:
    """GPT-NeoX: part of each head is rotated, attention and MLP stand beside each other."""
    inner = model.gpt_neox
    act = ACTS.get(config.hidden_act)
    if act is None:
        return None
    layers = [
        Modules(
            Norm(x.input_layernorm), [x.attention.query_key_value], x.attention.dense,
            Norm(x.post_attention_layernorm), [x.mlp.dense_h_to_4h], x.mlp.dense_4h_to_h,
        )
        for x in inner.layers
    ]  # fmt: skip
    first = inner.layers[0].attention
    heads = int(config.num_attention_heads)
    return Family(
        layers, Norm(inner.final_layer_norm), heads, heads, int(first.head_size),
        float(first.scaling), act, inner.rotary_emb, gated=False, interleaved=True,
        parallel=bool(config.use_parallel_residual),
    )  # fmt: skip


READERS: dict[str, Callable[[Any, Any], Family | None]] = {
    "llama": _llama, "mistral": _llama, "qwen2": _llama, "qwen3": _llama, "gemma": _gemma,
    "gemma2": _gemma, "phi3": _phi3, "starcoder2": _starcoder2, "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
}  # fmt: skip
