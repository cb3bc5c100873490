"""The one attention function: weights that can be watched and changed, at full speed.

A :class:`Part` says which query rows it wants to see and which edges it changes. Rows that nobody
watches or changes come from the fused kernel; at a one-token step the row *is* the computation, so
it is computed once and used for the output too. Families whose scores are not plain (softcap,
sinks, a position bias) go through their own eager function, block by block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

KERNEL = "tokenscope"
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


Edges = Sequence[tuple[int | None, Edge]]  # batch row (None: every row) and edge


class Part(Protocol):
    """Who watches or changes attention while a forward runs."""

    def wanted(self, layer: int, offset: int, n: int) -> tuple[int, int]:
        """Which of the ``n`` new query rows to see; the first stands at position ``offset``."""
        ...

    def see(self, layer: int, first: int, weights: Tensor, values: Tensor) -> None:
        """Weights (B, H, rows, keys) float32 of the rows from position ``first``; values
        (B, H_kv, keys, head_dim)."""
        ...

    def edges_in(self, layer: int) -> Edges:
        """The edges to change in a layer."""
        ...

    def shift(
        self, layer: int, first: int, n: int, keys: int, like: Tensor, heads: int
    ) -> Tensor | None:
        """(heads, n, keys): what is added to the scores of the ``n`` queries from position
        ``first`` on, in the dtype and on the device of ``like``; None: nothing."""
        ...

    def block(self, batch_heads: int, keys: int) -> int:
        """How many query rows may be computed at a time."""
        ...


_ACTIVE: ContextVar[Part | None] = ContextVar("tokenscope_attention_part", default=None)


@contextmanager
def active(part: Part) -> Iterator[None]:
    """Every forward through the kernel inside the block is watched and changed by ``part``."""
    token = _ACTIVE.set(part)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def block_rows(heads: int, keys: int) -> int:
    """How many query rows fit into ``BLOCK_BYTES`` (scores, mask and weights: three float32)."""
    return max(1, min(keys, BLOCK_BYTES // max(1, heads * keys * 12)))


def family_eager(module: nn.Module) -> Callable[..., Any] | None:
    """The eager attention function of the module's own family, if it has one."""
    home = sys.modules.get(type(module).__module__)
    return getattr(home, "eager_attention_forward", None)


def plain_scores(module: nn.Module, extras: dict[str, Any]) -> bool:
    """Whether scores are plain scaled dot products: no softcap, no sinks, no position bias."""
    if any(extras.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        return False
    if getattr(module, "sinks", None) is not None:
        return False
    return getattr(module, "attn_logit_softcapping", None) is None


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None,
    **extras: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The registered attention function. Shapes: (B, H, n, D) in, (B, n, H, D) out."""
    part = _ACTIVE.get()
    n, keys = query.shape[2], key.shape[2]
    offset = keys - n  # cached keys stand before the first query
    layer = int(getattr(module, "layer_idx", None) or 0)
    edges = part.edges_in(layer) if part is not None else ()
    lo, hi = part.wanted(layer, offset, n) if part is not None else (0, 0)
    lo, hi = max(lo, 0), min(hi, n)
    shift = None
    if part is not None:
        shift = part.shift(layer, offset, n, keys, query, query.shape[1])
    whole = n == 1 or bool(edges) or shift is not None or not plain_scores(module, extras)
    size = part.block(query.shape[0] * query.shape[1], keys) if part is not None else n
    outputs = []
    for start in range(0 if whole else lo, n if whole else hi, size):
        end = min(start + size, n if whole else hi)
        rows = query[:, :, start:end]
        add = _additive(attention_mask, query, keys, start, end)
        if shift is not None:
            moved = shift[None, :, start:end]
            add = moved if add is None else add + moved
        here = [(r, e) for r, e in edges if offset + start <= e.query < offset + end]
        out, weights = _rows(module, rows, key, value, add, scaling, extras, here, offset + start)
        if whole:
            outputs.append(out)
        first, last = max(start, lo), min(end, hi)
        if part is not None and first < last:
            part.see(layer, offset + first, weights[:, :, first - start : last - start], value)
    if whole:
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=0.0, scaling=scaling,
        is_causal=is_causal, **extras,
    )  # fmt: skip
    return output, None


def _additive(mask: Tensor | None, query: Tensor, keys: int, start: int, end: int) -> Tensor | None:
    """The mask of the query rows ``start..end`` as floats to add, or None where all is allowed."""
    n = query.shape[2]
    if mask is None:
        if n == 1:
            return None
        at = torch.arange(keys - n + start, keys - n + end, device=query.device)
        mask = (torch.arange(keys, device=query.device)[None, :] <= at[:, None])[None, None]
    else:
        mask = mask[:, :, start:end, :keys]
    if mask.dtype == torch.bool:
        zero = torch.zeros((), dtype=query.dtype, device=query.device)
        return torch.where(mask, zero, torch.finfo(query.dtype).min)
    return mask


def _rows(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, add: Tensor | None,
    scaling: float | None, extras: dict[str, Any], edges: Edges, first: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Output (B, rows, H, D) and weights (B, H, rows, keys) of query rows from ``first`` on."""
    if edges:
        add = _cut(add, query, key.shape[2], edges, first)
    if plain_scores(module, extras):
        weights = _plain_weights(query, key, add, scaling)
        out = None
    else:
        eager = family_eager(module)
        if eager is None:
            raise RuntimeError(f"{type(module).__name__} has scores of its own and no eager form")
        out, weights = eager(module, query, key, value, add, scaling=scaling, dropout=0.0, **extras)
        weights = weights[..., : key.shape[2]]
    if edges:
        assert add is not None
        lost = (add <= torch.finfo(add.dtype).min / 2).all(-1, keepdim=True)
        weights = weights.masked_fill(lost, 0.0)  # a row that lost its only key reads nothing
        for row, edge in edges:
            if edge.how == "zero":
                weights[_at(row), _at(edge.head), edge.query - first, edge.key] = 0.0
    if out is None or edges:
        out = _output(weights.to(value.dtype), value)
    return out, weights


def _plain_weights(query: Tensor, key: Tensor, add: Tensor | None, scaling: float | None) -> Tensor:
    """softmax(q k / sqrt(D) + mask), float32 (float64 where the model is)."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    batch, heads, rows, width = query.shape
    groups = heads // key.shape[1]
    if groups > 1:  # GQA without copying the keys: fold the group into the row axis
        query = query.reshape(batch, key.shape[1], groups * rows, width)
    scores = torch.matmul(query * scale, key.transpose(2, 3)).view(batch, heads, rows, -1)
    if add is not None:
        scores = scores + add
    exact = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return torch.softmax(scores, dim=-1, dtype=exact)


def _output(weights: Tensor, value: Tensor) -> Tensor:
    """(B, rows, H, D): the values in the proportions of weights (B, H, rows, keys)."""
    batch, heads, rows, keys = weights.shape
    groups = heads // value.shape[1]
    folded = weights.reshape(batch, value.shape[1], groups * rows, keys)
    out = torch.matmul(folded, value).view(batch, heads, rows, value.shape[-1])
    return out.transpose(1, 2)


def _cut(add: Tensor | None, query: Tensor, keys: int, edges: Edges, first: int) -> Tensor:
    """A mask of its own for every sequence and head, with the cut edges in it."""
    batch, heads, rows, _ = query.shape
    if add is None:
        add = torch.zeros((), dtype=query.dtype, device=query.device)
    add = add.expand(batch, heads, rows, keys).clone()
    for row, edge in edges:
        if edge.how == "cut":
            lowest = torch.finfo(add.dtype).min
            add[_at(row), _at(edge.head), edge.query - first, edge.key] = lowest
    return add


def _at(index: int | None) -> slice | int:
    return slice(None) if index is None else index


def register() -> None:
    """Make the kernel known to transformers, its mask too (else the mask is silently None)."""
    AttentionInterface.register(KERNEL, attend)
    AttentionMaskInterface.register(KERNEL, sdpa_mask)


register()
