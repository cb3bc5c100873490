"""Where the parts of a decoder-only model are: found by name, checked by a probe, or refused.

A pre- or post-norm decoder adds to a residual stream: ``h[l+1] = h[l] + a[l] + m[l]``. What a
layer adds beyond its attention and its MLP (a recurrent mixer, a part with an unknown name) is
called ``other``; it is computed as the remainder and shown, never hidden.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokenscope.errors import AbilityError

LAYERS = ("layers", "h", "blocks")
FINAL_NORMS = (
    "norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f", "embedding_norm",
    "final_norm", "layer_norm",
)  # fmt: skip
ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
OUTPUTS = ("o_proj", "c_proj", "dense", "out_proj")
FEED_FORWARDS = ("mlp", "feed_forward", "block_sparse_moe", "ffn", "mlp_block")


@dataclass(frozen=True, eq=False)
class LayerParts:
    """One layer. ``attention`` is None where the layer has none (hybrids); heads are then 0.

    ``after_attention`` and ``after_mlp`` are norms between a part and the residual stream
    (Gemma 2, OLMo 2). ``window`` is the sliding window in tokens, None where all keys are seen.
    ``weighing`` is the module that makes the attention weights: ``attention`` itself but in
    families whose attention returns the stream with its share already added (BLOOM).
    """

    index: int
    block: nn.Module
    attention: nn.Module | None
    out: nn.Module | None
    mlp: nn.Module | None
    after_attention: nn.Module | None
    after_mlp: nn.Module | None
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None
    sinks: bool
    weighing: nn.Module | None = None

    def head_matrices(self) -> Tensor:
        """(H, head_dim, d): what takes one head's output to the residual stream (no bias)."""
        assert self.out is not None
        weight: Tensor = self.out.weight  # type: ignore[assignment]
        if isinstance(self.out, nn.Linear):
            weight = weight.T  # GPT-2's Conv1D keeps (in, out), a Linear (out, in)
        return weight.detach().reshape(self.heads, self.head_dim, -1)

    def out_bias(self) -> Tensor | None:
        """(d,): the bias of the output projection, which belongs to no head."""
        bias = getattr(self.out, "bias", None)
        return bias.detach() if isinstance(bias, Tensor) else None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A whole model. ``softcap``: of the final logits; ``logit_scale`` multiplies them before."""

    model: nn.Module
    embedding: nn.Module
    layers: tuple[LayerParts, ...]
    norm: nn.Module
    head: nn.Module
    softcap: float | None
    logit_scale: float
    residual_scale: float

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """Numbers of the layers that have attention."""
        return tuple(p.index for p in self.layers if p.attention is not None)

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return max((p.heads for p in self.layers), default=0)


def read_anatomy(model: nn.Module) -> Anatomy:
    """Find the parts. Raises AbilityError that names the part which was not found."""
    config: Any = model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    core = getattr(model, str(getattr(model, "base_model_prefix", "model")), None)
    if core is None:
        raise _refuse(model, "no decoder under its base name")
    core = getattr(core, "decoder", core)
    blocks = _first(core, LAYERS)
    norm = _first(core, FINAL_NORMS)
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    for part, name in ((blocks, "layers"), (norm, "final norm"), (head, "output head")):
        if part is None:
            raise _refuse(model, f"no {name}")
    assert isinstance(blocks, nn.Module) and isinstance(norm, nn.Module)
    layers = tuple(
        _layer(model, block, i, config)
        for i, block in enumerate(blocks.children())
    )  # fmt: skip
    if not layers:
        raise _refuse(model, "no layers")
    return Anatomy(
        model, embedding, layers, norm, head,
        getattr(config, "final_logit_softcapping", getattr(config, "logits_soft_cap", None)),
        1.0 / float(getattr(config, "logits_scaling", 1.0) or 1.0)
        * float(getattr(config, "logit_scale", 1.0) or 1.0),
        float(getattr(config, "residual_multiplier", 1.0) or 1.0),
    )  # fmt: skip


def _layer(model: nn.Module, block: nn.Module, index: int, config: Any) -> LayerParts:
    attention = _first(block, ATTENTIONS)
    mixer = getattr(block, "temporal_block", None)  # RecurrentGemma: attention, or a recurrence
    if isinstance(mixer, nn.Module) and hasattr(mixer, "q_proj"):
        attention = mixer
    mlp = _first(block, FEED_FORWARDS)
    # a norm behind the MLP means that "post_attention_layernorm" is behind the attention too
    post = getattr(block, "post_feedforward_layernorm", None)
    after_attention = getattr(block, "post_attention_layernorm", None) if post else None
    if attention is None:
        return LayerParts(index, block, None, None, mlp, None, post, 0, 0, 0, None, False)
    out = _first(attention, OUTPUTS)
    if out is None:
        raise _refuse(model, f"layer {index}: no output projection in its attention")
    heads = int(config.num_attention_heads)
    size = getattr(attention, "head_dim", None) or getattr(attention, "head_size", None)
    size = int(size or config.hidden_size // heads)
    rows = int(out.weight.shape[1 if isinstance(out, nn.Linear) else 0])  # type: ignore[index]
    if rows != heads * size:
        raise _refuse(
            model,
            f"layer {index}: {rows} inputs of its output projection, not {heads} heads of {size}",
        )
    window = getattr(attention, "sliding_window", None)
    share = out if _adds_itself(attention) else attention
    if mlp is not None and _adds_itself(mlp):
        mlp = _first(mlp, ("dense_4h_to_h",)) or mlp
    return LayerParts(
        index, block, share, out, mlp, after_attention, post, heads,
        int(getattr(config, "num_key_value_heads", None) or heads), size,
        int(window) if window else None, hasattr(attention, "sinks"), attention,
    )  # fmt: skip


def _adds_itself(part: nn.Module) -> bool:
    """Whether a part takes the stream and returns it with its own share added (BLOOM)."""
    return "residual" in inspect.signature(part.forward).parameters


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A norm made linear by keeping its scale: ``apply(c) = gain * (c - mean c) / sigma``.

    ``centred`` is True for LayerNorm, False for RMSNorm (no mean is taken off). ``bias`` (d,).
    """

    gain: Tensor
    bias: Tensor | None
    sigma: Tensor
    centred: bool

    def apply(self, part: Tensor) -> Tensor:
        """The share (..., d) of a summand ``part`` (..., d) of the norm's input; without bias."""
        if self.centred:
            part = part - part.mean(-1, keepdim=True)
        return part / self.sigma * self.gain


def freeze_norm(norm: nn.Module, x: Tensor) -> FrozenNorm:
    """The norm at the point ``x`` (d,), checked against the module's own output.

    LayerNorm, RMSNorm and RMSNorm with a gain of ``1 + w`` (Gemma). Raises AbilityError for
    another kind. A 16-bit norm is checked as a float32 copy: its own rounding (bfloat16: 2^-8)
    would hide the difference between the kinds.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        norm, x = copy.deepcopy(norm).float(), x.float()
    wanted = norm(x[None, None]).detach()[0, 0]
    weight: Any = getattr(norm, "weight", None)
    eps = next(
        (float(v) for n in ("eps", "variance_epsilon") if (v := getattr(norm, n, None))), 0.0
    )
    bias: Any = getattr(norm, "bias", None)
    bias = bias.detach() if isinstance(bias, Tensor) else None
    plain = torch.ones_like(x)
    weight = weight.detach().to(x.dtype) if isinstance(weight, Tensor) else plain
    for centred, gain in ((False, weight), (False, 1 + weight), (True, weight)):
        moved = x - x.mean() if centred else x
        sigma = torch.sqrt(moved.pow(2).mean() + eps)
        frozen = FrozenNorm(gain, bias, sigma, centred)
        made = frozen.apply(x) + (bias if bias is not None else 0.0)
        if torch.allclose(made, wanted, rtol=1e-4, atol=1e-5):
            return frozen
    raise AbilityError(f"{type(norm).__name__} is neither a LayerNorm nor an RMSNorm")


def _first(part: Any, names: tuple[str, ...]) -> nn.Module | None:
    for name in names:
        found = getattr(part, name, None)
        if isinstance(found, nn.Module):
            return found
    return None


def _refuse(model: nn.Module, cause: str) -> AbilityError:
    return AbilityError(f"the internals of {type(model).__name__} cannot be mapped: {cause}")
