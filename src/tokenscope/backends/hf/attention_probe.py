"""An attention function that can be watched and cut, for every family, in bounded memory.

It takes the place of the model's own while a :class:`Probe` is active. Where nothing is cut and
the family has neither softcap nor sinks, the output comes from sdpa; else from the same formula
in blocks of query rows, so that no more than ``BLOCK_BYTES`` of scores exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tokenscope_probe"
BLOCK_BYTES = 32 * 2**20

Cut = Literal["cut", "zero"]


@dataclass(frozen=True, slots=True)
class Edge:
    """An attention edge: what the query at ``query`` reads from ``key``; None means all.

    ``cut`` sets the score to minus infinity, the other weights take its mass over (attention
    knockout, Geva 2023, arXiv 2304.14767); ``zero`` sets the weight to 0 and leaves the others.
    """

    query: int
    key: int
    layer: int | None = None
    head: int | None = None
    how: Cut = "cut"


# (layer, first query row, weights (B, H, rows, keys) float32, values (B, H_kv, keys, head_dim))
Watcher = Callable[[int, int, Tensor, Tensor], None]


@dataclass(slots=True)
class Probe:
    """``watch`` sees the weights of the query rows ``rows`` (None: all) of ``layers`` (None: all).

    ``edges``: pairs of batch row (None: every row) and edge.
    """

    watch: Watcher | None = None
    rows: tuple[int, int] | None = None
    layers: frozenset[int] | None = None
    edges: Sequence[tuple[int | None, Edge]] = ()

    def edges_in(self, layer: int) -> list[tuple[int | None, Edge]]:
        """The edges that concern ``layer``."""
        return [(r, e) for r, e in self.edges if e.layer is None or e.layer == layer]


_ACTIVE: ContextVar[Probe | None] = ContextVar("tokenscope_probe", default=None)


@contextmanager
def probing(model: nn.Module, probe: Probe) -> Iterator[None]:
    """Make the model's attention go through :func:`attend`; what was set before comes back."""
    configs = {id(c): c for c in _configs(model)}.values()
    before = [(c, c._attn_implementation) for c in configs]
    token = _ACTIVE.set(probe)
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
        _ACTIVE.reset(token)


def _configs(model: nn.Module) -> Iterator[Any]:
    yield model.config
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            yield config


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The registered attention function: output (B, rows, H, head_dim)."""
    probe = _ACTIVE.get() or Probe()
    layer = int(getattr(module, "layer_idx", 0) or 0)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    softcap, sinks = options.get("softcap"), options.get("s_aux")
    edges = probe.edges_in(layer)
    watched = probe.watch is not None and (probe.layers is None or layer in probe.layers)
    plain = softcap is None and sinks is None and not edges
    length, keys = query.shape[2], key.shape[2]
    offset = keys - length  # cached keys stand before the first query
    lo, hi = (0, length) if probe.rows is None else (probe.rows[0] - offset, probe.rows[1] - offset)

    def block(start: int, end: int) -> Tensor:
        mask = attention_mask[:, :, start:end, :keys] if attention_mask is not None else None
        return rows_of(
            query[:, :, start:end], key, scale, mask, offset + start, softcap, sinks, edges
        )

    size = block_rows(query.shape[0] * query.shape[1], keys)
    if plain:
        if watched and probe.watch is not None:
            for start in range(max(lo, 0), min(hi, length), size):
                end = min(start + size, hi, length)
                probe.watch(layer, offset + start, block(start, end), value)
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=0.0, scaling=scale, **options
        )
        return output, None
    groups = query.shape[1] // value.shape[1]
    values = value.repeat_interleave(groups, dim=1)
    parts = []
    for start in range(0, length, size):
        end = min(start + size, length)
        weights = block(start, end)
        parts.append(weights.to(values.dtype) @ values)
        if watched and probe.watch is not None and start < hi and end > lo:
            first, last = max(start, lo), min(end, hi)
            part = weights[:, :, first - start : last - start]
            probe.watch(layer, offset + first, part, value)
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def block_rows(heads: int, keys: int) -> int:
    """How many query rows fit into ``BLOCK_BYTES`` (scores, mask and weights: three float32)."""
    return max(1, min(keys, BLOCK_BYTES // max(1, heads * keys * 12)))


def rows_of(
    query: Tensor, key: Tensor, scale: float, mask: Tensor | None, first: int,
    softcap: float | None, sinks: Tensor | None, edges: Sequence[tuple[int | None, Edge]],
) -> Tensor:  # fmt: skip
    """Weights (B, H, rows, keys) float32 of the query rows that start at position ``first``."""
    batch, heads, count, _ = query.shape
    groups = heads // key.shape[1]
    folded = query.reshape(batch, key.shape[1], groups * count, -1)  # GQA without copies of keys
    scores = (folded @ key.transpose(2, 3)).float().mul_(scale)
    scores = scores.reshape(batch, heads, count, key.shape[2])
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        positions = torch.arange(first, first + count, device=query.device)[:, None]
        allowed = torch.arange(key.shape[2], device=query.device)[None, :] <= positions
        scores = scores.masked_fill(~allowed, -torch.inf)
    elif mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    else:
        scores = scores + mask
    cut = [(r, e) for r, e in edges if first <= e.query < first + count]
    for row, edge in cut:
        if edge.how == "cut":
            scores[_at(row), _at(edge.head), edge.query - first, edge.key] = -torch.inf
    if sinks is not None:
        extra = sinks.reshape(1, -1, 1, 1).expand(batch, -1, count, 1).to(scores.dtype)
        weights = torch.softmax(torch.cat([scores, extra], dim=-1), dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    if cut:
        weights = torch.nan_to_num(weights)  # a row that lost its only key reads nothing
        for row, edge in cut:
            if edge.how == "zero":
                weights[_at(row), _at(edge.head), edge.query - first, edge.key] = 0.0
    return weights


def _at(index: int | None) -> slice | int:
    return slice(None) if index is None else index


AttentionInterface.register(NAME, attend)
# without a mask function of its own name the mask would silently be None
AttentionMaskInterface.register(NAME, sdpa_mask)
