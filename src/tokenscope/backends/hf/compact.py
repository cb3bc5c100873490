"""A lean step for plain Llama-like decoders (Llama, Mistral, Qwen2): few tokens of many states.

On a small model most of a step is the overhead of calling some hundred small modules. Here the
same arithmetic runs over the same weights with about twenty calls a layer; attention rows fall
out of it at no cost. The tokens of all feeds go through the weights together, and each state
attends to its own past. It is used only after the load-time probe has found it equal to the
family's own eager forward; every other model, and every long feed, runs through transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch.nn import functional as F

from tokenscope.backends.hf.cache import Block, GrowingLayer
from tokenscope.backends.hf.int8 import is_int8

FAMILIES = ("llama", "mistral", "qwen2")
STATIC_ROPE = ("default", "linear", "llama3")
ROPE_ROWS = 1024
MOST_TOKENS = 16  # of one feed; from there on the fused kernels of a prefill are faster
PACKED_BYTES = 1 << 30  # a model whose weights are larger is not packed a second time
PACKED_SHARE = 0.5  # nor one whose second copy would take more than this share of free memory
PACKED_ROWS = 64  # more tokens than this gain nothing from packed weights


@dataclass(frozen=True, slots=True)
class LeanFeed:
    """One feed: ids, the state's layers, and of how many last tokens rows and scores are wanted."""

    ids: Sequence[int]
    cache: Sequence[GrowingLayer]
    rows: int
    scores: int


class Matrix:
    """One weight (out, in) with its bias, multiplied by few rows at a time.

    Two to eight rows through torch's own product cost up to four times as much as one (its
    kernels are made for long sides); oneDNN's, over weights packed in its order, cost 0.8 to 1.5
    times as much. The packed copy is made where there is room for it; one row uses it only in
    the tall output matrix, where it is the faster of the two as well.
    """

    __slots__ = ("bias", "packed", "tall", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, pack: bool) -> None:
        self.weight = weight
        self.bias = bias
        self.tall = weight.shape[0] >= 4096
        self.packed: torch.Tensor | None = None
        if pack:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 8)

    @property
    def packed_bytes(self) -> int:
        """What the second copy takes."""
        return self.weight.nbytes if self.packed is not None else 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in) to (n, out)."""
        n = x.shape[0]
        if self.packed is None or n > PACKED_ROWS or (n == 1 and not self.tall):
            return F.linear(x, self.weight, self.bias)
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, "none", [], ""
        )
        return out


@dataclass(slots=True)
class _Layer:
    """Weights of one layer; q, k, v share one matrix, and gate and up another."""

    norm_in: torch.Tensor
    qkv: Matrix
    out: Matrix
    norm_mlp: torch.Tensor
    gate_up: Matrix
    down: Matrix


class CompactStep:
    """The step function of one model. Build it with :func:`compact_step`."""

    def __init__(self, model: Any, pack: bool = True) -> None:
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
        self.rotary = inner.rotary_emb
        size = sum(p.nbytes for p in model.parameters())
        suits = (
            self.embedding.device.type == "cpu" and self.embedding.dtype == torch.float32
            and size <= PACKED_BYTES and torch.backends.mkldnn.is_available()
        )  # fmt: skip
        pack = pack and suits and size <= PACKED_SHARE * psutil.virtual_memory().available
        self.head = Matrix(model.lm_head.weight, model.lm_head.bias, pack)
        self.layers = [_fused(layer, pack) for layer in inner.layers]
        self.packed_bytes = sum(m.packed_bytes for m in self._matrices())
        self.note = ""
        if pack:
            self.note = f"packed weights: a second copy of {self.packed_bytes / 1e6:.0f} MB"
        elif suits:
            self.note = "weights are not packed a second time: memory is short"
        self._cos = self._sin = torch.empty(0, self.width)

    def _matrices(self) -> list[Matrix]:
        inner = [m for w in self.layers for m in (w.qkv, w.out, w.gate_up, w.down)]
        return [self.head, *inner]

    def _rope(self, spans: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and signed sin (N, 1, D) of the positions in ``spans``, from a table that grows."""
        end = max(b for _, b in spans)
        if end > self._cos.shape[0]:
            rows = ROPE_ROWS * (end // ROPE_ROWS + 1)
            at = torch.arange(rows, device=self.embedding.device)[None]
            cos, sin = self.rotary(self.embedding[:1], at)
            half = self.width // 2
            # rotate_half(x) * sin == roll(x, half) * signed sin: one call less a layer
            self._cos = cos[0][:, None]
            self._sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)[:, None]
        if len(spans) == 1:
            a, b = spans[0]
            return self._cos[a:b], self._sin[a:b]
        index = torch.tensor([t for a, b in spans for t in range(a, b)], device=self._cos.device)
        return self._cos[index], self._sin[index]

    def __call__(
        self, feeds: Sequence[LeanFeed]
    ) -> list[tuple[torch.Tensor | None, list[torch.Tensor]]]:
        """Per feed float32 logits (scores, V), or None, and rows (H, rows, keys) per layer."""
        heads, kv, width = self.heads, self.kv_heads, self.width
        ids = [int(i) for f in feeds for i in f.ids]
        cuts = _cuts([len(f.ids) for f in feeds])
        total = len(ids)
        cos, sin = self._rope([(f.cache[0].length, f.cache[0].length + len(f.ids)) for f in feeds])
        if total == 1:
            x = self.embedding[ids[0] : ids[0] + 1]  # (N, d)
        else:
            x = self.embedding[torch.tensor(ids, device=self.embedding.device)]
        attention: list[list[torch.Tensor]] = [[] for _ in feeds]
        many = _Many(feeds, kv, heads // kv) if total == len(feeds) > 1 else None
        shape = (self.hidden,)
        for number, w in enumerate(self.layers):
            h = F.rms_norm(x, shape, w.norm_in, self.eps)
            qkv = w.qkv(h).view(total, heads + 2 * kv, width)
            qk = qkv[:, : heads + kv]
            qk = torch.addcmul(qk * cos, qk.roll(width // 2, -1), sin)
            q, k, v = qk[:, :heads], qk[:, heads:], qkv[:, heads + kv :]
            q.mul_(self.scale)
            if many is not None:
                o = many.attend(number, q, k, v)
            else:
                outs = []
                for feed, (a, b), rows in zip(feeds, cuts, attention, strict=True):
                    layer = feed.cache[number]
                    layer.append(k[a:b].transpose(0, 1)[None], v[a:b].transpose(0, 1)[None])
                    out, weights = self._attend(q[a:b], layer, feed.rows)
                    outs.append(out)
                    if weights is not None:
                        rows.append(weights)
                o = outs[0] if len(outs) == 1 else torch.cat(outs)
            if total == 1:
                x = torch.addmm(x, o, w.out.weight.t())
            else:
                x = x + w.out(o)
            h = F.rms_norm(x, shape, w.norm_mlp, self.eps)
            gate, up = w.gate_up(h).chunk(2, dim=-1)
            h = F.silu(gate) * up
            x = torch.addmm(x, h, w.down.weight.t()) if total == 1 else x + w.down(h)
        if many is not None:
            attention = many.rows()
        return list(zip(self._logits(x, feeds, cuts), attention, strict=True))

    def _attend(
        self, q: torch.Tensor, layer: GrowingLayer, rows: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(n, H, D) scaled queries of the last n tokens to (n, H * D), and the last rows."""
        kv, width, n = self.kv_heads, self.width, q.shape[0]
        group = self.heads // kv
        if n == 1:
            q = q.reshape(kv, group, width)
        else:
            q = q.reshape(n, kv, group, width).transpose(0, 1).reshape(kv, n * group, width)
        parts = layer.views()
        scores = [torch.matmul(q, k[0].transpose(1, 2)) for k, _ in parts]
        score = scores[0] if len(parts) == 1 else torch.cat(scores, dim=-1)
        if n > 1:
            later = torch.ones(n, n, dtype=torch.bool, device=q.device).triu_(1)
            score.view(kv, n, group, -1)[..., -n:].masked_fill_(later[:, None], -torch.inf)
        weights = torch.softmax(score, dim=-1, dtype=torch.float32)  # (kv, n * g, keys)
        w = weights.to(q.dtype)
        if len(parts) == 1:
            out = torch.matmul(w, parts[0][1][0])
        else:
            split = w.split([v.shape[2] for _, v in parts], dim=-1)
            out = torch.stack(
                [torch.matmul(s, v[0]) for s, (_, v) in zip(split, parts, strict=True)]
            ).sum(0)
        if n > 1:
            out = out.view(kv, n, group, width).transpose(0, 1).reshape(n, -1)
        held = None
        if rows:
            held = weights.view(kv, n, group, -1)[:, n - rows :].transpose(1, 2)
            held = held.reshape(self.heads, rows, -1)
        return out.view(n, self.heads * width), held

    def _logits(
        self, x: torch.Tensor, feeds: Sequence[LeanFeed], cuts: Sequence[tuple[int, int]]
    ) -> list[torch.Tensor | None]:
        wanted = [f.scores for f in feeds]
        if not any(wanted):
            return [None] * len(feeds)
        if sum(wanted) < x.shape[0]:
            x = torch.cat([x[b - k : b] for (_, b), k in zip(cuts, wanted, strict=True)])
        logits = self.head(F.rms_norm(x, (self.hidden,), self.norm, self.eps)).float()
        return [logits[a:b] if b > a else None for a, b in _cuts(wanted)]


class _Many:
    """Attention of one new token in each of S states: one softmax over all, padded to the longest.

    What costs here is calls, not arithmetic: per state and layer two products and four views.
    """

    def __init__(self, feeds: Sequence[LeanFeed], kv: int, group: int) -> None:
        self.feeds = feeds
        self.kv, self.group = kv, group
        self.lengths = [f.cache[0].length + 1 for f in feeds]
        self.weights: list[torch.Tensor] = []
        self.scores = torch.empty(0)
        self.slots: list[list[torch.Tensor]] = []

    def attend(
        self, number: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        """(S, H, D) scaled queries, (S, kv, D) keys and values of layer ``number`` to (S, H*D)."""
        count, width = q.shape[0], q.shape[2]
        like = k[:1, :, None]  # (1, kv, 1, D)
        chains = []
        into, of = [], []
        for n, feed in enumerate(self.feeds):
            layer = feed.cache[number]
            block, start, _ = layer.claim(like, like, 1)
            into += [block.keys[0].select(1, start), block.values[0].select(1, start)]
            of += [k[n], v[n]]
            chains.append(layer.parts)
        torch._foreach_copy_(into, of)
        if not self.slots:  # the chains are cut alike in every layer
            self._lay_out(q, chains)
        queries = q.reshape(count, self.kv, self.group, width)
        for query, slots, parts in zip(queries.unbind(0), self.slots, chains, strict=True):
            for slot, (block, used) in zip(slots, parts, strict=True):
                torch.bmm(query, block.keys[0].transpose(1, 2).narrow(2, 0, used), out=slot)
        weights = torch.softmax(self.scores, dim=-1, dtype=torch.float32)
        self.weights.append(weights)
        outs = torch.empty_like(queries)
        cast = weights.to(q.dtype)
        for w, out, parts in zip(cast.unbind(0), outs.unbind(0), chains, strict=True):
            at = 0
            for block, used in parts:
                values = block.values[0].narrow(1, 0, used)
                part = w.narrow(2, at, used)
                if at == 0:
                    torch.bmm(part, values, out=out)
                else:
                    out.baddbmm_(part, values)
                at += used
        return outs.view(count, -1)

    def _lay_out(self, q: torch.Tensor, chains: Sequence[list[tuple[Block, int]]]) -> None:
        shape = (len(chains), self.kv, self.group, max(self.lengths))
        self.scores = q.new_full(shape, -torch.inf)
        for scores, parts in zip(self.scores.unbind(0), chains, strict=True):
            slots, at = [], 0
            for _, used in parts:
                slots.append(scores.narrow(2, at, used))
                at += used
            self.slots.append(slots)

    def rows(self) -> list[list[torch.Tensor]]:
        """Per state a row (H, 1, keys) of each layer where it was asked for."""
        heads = self.kv * self.group
        out: list[list[torch.Tensor]] = []
        for n, (feed, length) in enumerate(zip(self.feeds, self.lengths, strict=True)):
            held = [w[n, :, :, :length].reshape(heads, 1, length) for w in self.weights]
            out.append(held if feed.rows else [])
        return out


def _cuts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where each of consecutive pieces begins and ends."""
    out, at = [], 0
    for size in sizes:
        out.append((at, at + size))
        at += size
    return out


def _joined(parts: list[torch.nn.Linear], pack: bool) -> Matrix:
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
    return Matrix(weight, bias, pack)


def _fused(layer: Any, pack: bool) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        layer.input_layernorm.weight,
        _joined([attention.q_proj, attention.k_proj, attention.v_proj], pack),
        Matrix(attention.o_proj.weight, None, pack),
        layer.post_attention_layernorm.weight,
        _joined([mlp.gate_proj, mlp.up_proj], pack),
        Matrix(mlp.down_proj.weight, None, pack),
    )


def compact_step(model: Any, pack: bool = True) -> CompactStep | None:
    """The lean step where the model's structure allows one, else None. ``pack``: see Matrix."""
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
        and not is_int8(model)
    )
    if not plain:
        return None
    return CompactStep(model, pack)


def _windowed(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(k != "full_attention" for k in kinds)
    return bool(getattr(config, "sliding_window", None)) and getattr(
        config, "use_sliding_window", True
    )
