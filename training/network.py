"""The Llama decoder in a form that trains fast on a CPU.

Parameter names are those of `transformers.LlamaForCausalLM`, so a state dict moves over as it
is. What differs is speed only: layers compile one by one, and the loss over the vocabulary
makes its gradient block by block, so that no full logits matrix ever exists.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig

BLOCK = 512  # rows of logits alive at once


class VocabularyLoss(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T`; the gradient is made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        rows = hidden.shape[0]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, rows, BLOCK):
            part = hidden[start : start + BLOCK]
            target = targets[start : start + BLOCK, None]
            logits = (part @ weight.T).float()
            top = logits.amax(-1, keepdim=True)
            picked = logits.gather(1, target)
            odds = logits.sub_(top).exp_()
            mass = odds.sum(-1, keepdim=True)
            total += (mass.log() + top - picked).sum()
            grad = odds.div_(mass * rows)
            grad.scatter_add_(1, target, torch.full_like(picked, -1.0 / rows))
            low = grad.to(hidden.dtype)
            torch.mm(low, weight, out=grad_hidden[start : start + BLOCK])
            grad_weight += low.T @ part
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total / rows

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * scale, grad_weight * scale, None


class Norm(nn.Module):
    """Root-mean-square norm with a learnt gain."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in Llama's half-split layout."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.kv = config.num_attention_heads, config.num_key_value_heads
        self.size = config.hidden_size // self.heads
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv * self.size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.size).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv, self.size).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv, self.size).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.kv != self.heads:
            k = k.repeat_interleave(self.heads // self.kv, dim=1)
            v = v.repeat_interleave(self.heads // self.kv, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class FeedForward(nn.Module):
    """Gated SiLU unit."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embedding, layers and final norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class Network(nn.Module):
    """The whole model; input and output embeddings are one matrix."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        size = config.hidden_size // config.num_attention_heads
        rates = 10000.0 ** (-torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), rates)
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Random weights; the projections back into the residual stream start small."""
        depth = 2 * self.config.num_hidden_layers
        for name, p in self.named_parameters():
            if p.ndim < 2:
                continue
            if "embed_tokens" in name:
                nn.init.normal_(p, std=0.04)
            else:
                gain = 1 / math.sqrt(depth) if "o_proj" in name or "down_proj" in name else 1.0
                nn.init.normal_(p, std=0.5 * gain / math.sqrt(p.shape[1]))

    def hidden(self, ids: Tensor) -> Tensor:
        """Final normed states, one a position."""
        x = self.model.embed_tokens(ids)
        cos = self.cos[: ids.shape[1]].to(x.dtype)
        sin = self.sin[: ids.shape[1]].to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.model.norm(x)
        return out

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Mean loss in nats of the targets, from the final states."""
        flat = states.reshape(-1, states.shape[-1])
        out: Tensor = VocabularyLoss.apply(
            flat, self.model.embed_tokens.weight.to(flat.dtype), targets.reshape(-1)
        )
        return out


def make_config(hidden: int, layers: int, inner: int, heads: int, kv_heads: int) -> LlamaConfig:
    """The published configuration of a shape."""
    return LlamaConfig(
        vocab_size=8192,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
