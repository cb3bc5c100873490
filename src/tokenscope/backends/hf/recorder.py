"""Attention rows while the model runs at full speed.

At prefill the output comes from the fused kernel and only the wanted rows are computed beside it;
at a one-token step the row *is* the computation, so it is computed once and used for the output
too. Families whose scores are not plain (softcap, sinks) go through their own eager function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

KERNEL = "tokenscope"


class Sink:
    """Where the rows of one forward go: ``rows[layer]`` is float32 (H, last, keys)."""

    __slots__ = ("last", "rows")

    def __init__(self, last: int) -> None:
        self.last = last
        self.rows: dict[int, torch.Tensor] = {}


_SINK: ContextVar[Sink | None] = ContextVar("tokenscope_attention_sink", default=None)


@contextmanager
def recording(last: int) -> Iterator[Sink | None]:
    """Record the rows of the last ``last`` queries of every forward inside the block."""
    if last <= 0:
        yield None
        return
    sink = Sink(last)
    token = _SINK.set(sink)
    try:
        yield sink
    finally:
        _SINK.reset(token)


def family_eager(module: torch.nn.Module) -> Callable[..., Any] | None:
    """The eager attention function of the module's own family, if it has one."""
    home = sys.modules.get(type(module).__module__)
    return getattr(home, "eager_attention_forward", None)


def plain_scores(module: torch.nn.Module, extras: dict[str, Any]) -> bool:
    """Whether scores are plain scaled dot products: no softcap, no sinks, no position bias."""
    if extras.get("softcap") is not None or extras.get("s_aux") is not None:
        return False
    if extras.get("position_bias") is not None:
        return False
    if getattr(module, "sinks", None) is not None:
        return False
    return getattr(module, "attn_logit_softcapping", None) is None


def _additive(
    mask: torch.Tensor | None, query: torch.Tensor, keys: int, rows: int
) -> torch.Tensor | None:
    """The mask of the last ``rows`` queries as floats to add, (1, 1 or H, rows, keys) or None."""
    n = query.shape[-2]
    if mask is None:
        if n == 1:
            return None
        at = torch.arange(keys - rows, keys, device=query.device)
        allowed = torch.arange(keys, device=query.device)[None, :] <= at[:, None]
        mask = allowed[None, None]
    else:
        mask = mask[:, :, -rows:, :keys]
    if mask.dtype == torch.bool:
        lowest = torch.finfo(query.dtype).min
        zero = torch.zeros((), dtype=query.dtype, device=query.device)
        return torch.where(mask, zero, lowest)
    return mask


def _rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    rows: int,
    extras: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (1, rows, H, D) and weights (1, H, rows, keys) of the last ``rows`` queries."""
    keys = key.shape[-2]
    q = query[:, :, query.shape[-2] - rows :]
    add = _additive(mask, query, keys, rows)
    if not plain_scores(module, extras):
        eager = family_eager(module)
        if eager is None:
            raise RuntimeError(f"{type(module).__name__} has scores of its own and no eager form")
        out, weights = eager(module, q, key, value, add, scaling=scaling, dropout=0.0, **extras)
        return out, weights[..., :keys]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    batch, heads, _, width = q.shape
    groups = heads // key.shape[1]
    if groups > 1:  # GQA without copying the keys: fold the group into the row axis
        q = q.reshape(batch, key.shape[1], groups * rows, width)
        scores = torch.matmul(q * scale, key.transpose(2, 3)).view(batch, heads, rows, keys)
    else:
        scores = torch.matmul(q * scale, key.transpose(2, 3))
    if add is not None:
        scores = scores + add
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    w = weights.to(value.dtype)
    if groups > 1:
        out = torch.matmul(w.view(batch, key.shape[1], groups * rows, keys), value)
        out = out.view(batch, heads, rows, value.shape[-1])
    else:
        out = torch.matmul(w, value)
    return out.transpose(1, 2), weights


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The registered attention function. Shapes: (1, H, n, D) in, (1, n, H, D) out."""
    n = query.shape[-2]
    sink = _SINK.get()
    plain = plain_scores(module, extras)
    rows = n if (n == 1 or not plain) else min(n, sink.last) if sink is not None else 0
    out = weights = None
    if rows:
        out, weights = _rows(module, query, key, value, attention_mask, scaling, rows, extras)
        if sink is not None:
            keep = min(sink.last, rows)
            layer = int(getattr(module, "layer_idx", len(sink.rows)) or 0)
            sink.rows[layer] = weights[0, :, -keep:].float()
    if out is None or rows < n:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=0.0, scaling=scaling,
            is_causal=is_causal, **extras,
        )  # fmt: skip
    return out, None


def register() -> None:
    """Make the kernel known to transformers, its mask too (else the mask is silently None)."""
    AttentionInterface.register(KERNEL, attend)
    AttentionMaskInterface.register(KERNEL, sdpa_mask)
