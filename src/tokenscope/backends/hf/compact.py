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
from typing import Any, Literal

import psutil
import torch
from torch.nn import functional as F

from tokenscope.backends.hf.batched import Batch
from tokenscope.backends.hf.cache import GrowingLayer
from tokenscope.backends.hf.deferred import WORTH, DeferredLogits
from tokenscope.backends.hf.int8 import is_int8
from tokenscope.backends.hf.slab import Slab, seated

FAMILIES = ("llama", "mistral", "qwen2")
STATIC_ROPE = ("default", "linear", "llama3")
ROPE_ROWS = 1024
MOST_TOKENS = 16  # of one feed; from there on the fused attention of a prefill is faster
BATCHED = 8  # of each of several feeds that attend in one go
PACKED_BYTES = 1 << 30  # a model whose weights are larger is not packed a second time
PACKED_SHARE = 0.5  # nor one whose second copy would take more than this share of free memory
PACKED_ROWS = 64  # more tokens than this gain nothing from packed weights
TALL = 4096  # rows of a weight that is packed to advantage for one token as well
TURNED_BYTES = 1 << 26  # of weights; up to there a transposed copy is the faster one

Pack = Literal["", "turned", "onednn"]


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
    kernels are made for long sides). Over a second copy they cost 1.2 to 1.7 times as much: of a
    small model (``turned``) a transposed one, which serves one row and many as well; of a larger
    one a copy packed in oneDNN's order. It is made where there is room for it.
    """

    __slots__ = ("bias", "packed", "tall", "turned", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, pack: Pack) -> None:
        self.weight = weight
        self.bias = bias
        self.tall = weight.shape[0] >= TALL
        self.turned: torch.Tensor | None = None
        self.packed: torch.Tensor | None = None
        if pack == "turned":
            self.turned = weight.t().contiguous()
        elif pack == "onednn":
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 8)

    @property
    def packed_bytes(self) -> int:
        """What the second copy takes."""
        return self.weight.nbytes if self.packed is not None or self.turned is not None else 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in) to (n, out)."""
        if self.turned is not None:
            if self.bias is None:
                return torch.mm(x, self.turned)
            return torch.addmm(self.bias, x, self.turned)
        n = x.shape[0]
        if self.packed is None or n > PACKED_ROWS or (n == 1 and not self.tall):
            return F.linear(x, self.weight, self.bias)
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, "none", [], ""
        )
        return out

    def add(self, x: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        """``to`` and the product, where there is no bias."""
        if self.turned is not None:
            return torch.addmm(to, x, self.turned)
        n = x.shape[0]
        if n == 1 or self.packed is None or n > PACKED_ROWS:
            return torch.addmm(to, x, self.weight.t())
        return self(x).add_(to)


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

    def __init__(self, model: Any, second: bool = True) -> None:
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
        pack: Pack = ""
        if second and suits and size <= PACKED_SHARE * psutil.virtual_memory().available:
            pack = "turned" if size <= TURNED_BYTES else "onednn"
        self.head = Matrix(model.lm_head.weight, model.lm_head.bias, pack)
        self.layers = [_fused(layer, pack) for layer in inner.layers]
        self.packed_bytes = sum(m.packed_bytes for m in self._matrices())
        self.note = ""
        if pack:
            self.note = f"packed weights: a second copy of {self.packed_bytes / 1e6:.0f} MB"
        elif suits:
            self.note = "weights are not packed a second time: memory is short"
        self._cos = self._sin = torch.empty(0, self.width)
        self._slab: Slab | None = None
        self._last: Batch | None = None  # holds its states: dropped when one of them rests

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
        if len(spans) * 2 > sum(b - a for a, b in spans):
            index = torch.tensor([t for a, b in spans for t in range(a, b)])
            index = index.to(self._cos.device)
            return self._cos[index], self._sin[index]
        cos, sin = (torch.cat([t[a:b] for a, b in spans]) for t in (self._cos, self._sin))
        return cos, sin

    def __call__(
        self, feeds: Sequence[LeanFeed]
    ) -> list[tuple[torch.Tensor | DeferredLogits | None, Sequence[torch.Tensor]]]:
        """Per feed float32 logits (scores, V), or None, and rows (H, rows, keys) per layer."""
        few = [n for n, f in enumerate(feeds) if len(f.ids) <= BATCHED]
        if len(few) < 2:
            few = []
        rest = [n for n in range(len(feeds)) if n not in few]
        batch = self._batch([feeds[n] for n in few]) if few else None
        if batch is not None:
            few = [few[n] for n in batch.order]
        order = [*few, *rest]
        found = self._run([feeds[n] for n in order], len(few), batch)
        back = sorted(range(len(order)), key=order.__getitem__)
        return [found[n] for n in back]

    def _batch(self, feeds: Sequence[LeanFeed]) -> Batch:
        """Room for all of them in one slab, in the order of their rows there."""
        caches, counts = [f.cache for f in feeds], [len(f.ids) for f in feeds]
        like = self.embedding.new_empty(1, self.kv_heads, 1, self.width)
        self._slab = slab = seated(self._slab, caches, counts, like)
        group = self.heads // self.kv_heads
        self._last = batch = Batch(slab, caches, counts, self.kv_heads, group, self._last)
        return batch

    def rest(self) -> None:
        """Give the slab's memory back once no state has a part in it. From any thread."""
        self._last, slab = None, self._slab
        if slab is not None and len(slab.free()) == slab.rows:
            self._slab = None

    def _run(
        self, feeds: Sequence[LeanFeed], few: int, batch: Batch | None
    ) -> list[tuple[torch.Tensor | DeferredLogits | None, Sequence[torch.Tensor]]]:
        """The first ``few`` feeds attend in a batch, the others one by one."""
        heads, kv, width = self.heads, self.kv_heads, self.width
        ids = [int(i) for f in feeds for i in f.ids]
        cuts = _cuts([len(f.ids) for f in feeds])
        total, cut = len(ids), cuts[few - 1][1] if few else 0
        # a batch has claimed its rows already
        starts = [f.cache[0].length - (len(f.ids) if n < few else 0) for n, f in enumerate(feeds)]
        cos, sin = self._rope(
            [(start, start + len(f.ids)) for start, f in zip(starts, feeds, strict=True)]
        )
        if total == 1:
            x = self.embedding[ids[0] : ids[0] + 1]  # (N, d)
        else:
            x = self.embedding[torch.tensor(ids, device=self.embedding.device)]
        attention: list[list[torch.Tensor]] = [[] for _ in feeds]
        shape = (self.hidden,)
        for number, w in enumerate(self.layers):
            h = F.rms_norm(x, shape, w.norm_in, self.eps)
            qkv = w.qkv(h).view(total, heads + 2 * kv, width)
            qk = qkv[:, : heads + kv]
            qk = torch.addcmul(qk * cos, qk.roll(width // 2, -1), sin)
            q, k, v = qk[:, :heads], qk[:, heads:], qkv[:, heads + kv :]
            q.mul_(self.scale)
            outs = []
            if batch is not None:
                outs.append(batch.attend(number, q[:cut], k[:cut], v[:cut]))
            for feed, (a, b), rows in list(zip(feeds, cuts, attention, strict=True))[few:]:
                layer = feed.cache[number]
                layer.append(k[a:b].transpose(0, 1)[None], v[a:b].transpose(0, 1)[None])
                attend = self._attend if b - a <= MOST_TOKENS else self._attend_long
                out, weights = attend(q[a:b], layer, feed.rows)
                outs.append(out)
                if weights is not None:
                    rows.append(weights)
            o = outs[0] if len(outs) == 1 else torch.cat(outs)
            x = w.out.add(o, x)
            h = F.rms_norm(x, shape, w.norm_mlp, self.eps)
            gate, up = w.gate_up(h).chunk(2, dim=-1)
            x = w.down.add(F.silu(gate).mul_(up), x)
        seen: list[Sequence[torch.Tensor]] = list(attention)
        if batch is not None:
            seen[:few] = [batch.rows_of(n, f.rows) for n, f in enumerate(feeds[:few])]
        return list(zip(self._logits(x, feeds, cuts), seen, strict=True))

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

    def _attend_long(
        self, q: torch.Tensor, layer: GrowingLayer, rows: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The same of many tokens: the fused kernel for the output, and beside it the rows."""
        n = q.shape[0]
        views = layer.views()
        keys, values = views[0]
        if len(views) > 1:
            keys = torch.cat([k for k, _ in views], dim=2)
            values = torch.cat([v for _, v in views], dim=2)
        past = layer.length - n
        mask = None
        if past:
            at = torch.arange(past, past + n, device=q.device)
            mask = torch.arange(past + n, device=q.device) <= at[:, None]
        out = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None], keys, values, attn_mask=mask, is_causal=mask is None,
            scale=1.0, enable_gqa=True,
        )  # fmt: skip
        held = self._rows(q[n - rows :], keys[0]) if rows else None
        return out[0].transpose(0, 1).reshape(n, -1), held

    def _rows(self, q: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """float32 (H, rows, keys) of the queries (rows, H, D) of the last tokens."""
        n, heads, width = q.shape
        kv = keys.shape[0]
        q = q.reshape(n, kv, heads // kv, width).permute(1, 2, 0, 3).reshape(kv, -1, width)
        score = torch.bmm(q, keys.transpose(1, 2)).view(heads, n, -1)
        later = torch.ones(n, n, dtype=torch.bool, device=q.device).triu_(1)
        score[..., -n:].masked_fill_(later, -torch.inf)
        return torch.softmax(score, dim=-1, dtype=torch.float32)

    def _logits(
        self, x: torch.Tensor, feeds: Sequence[LeanFeed], cuts: Sequence[tuple[int, int]]
    ) -> list[torch.Tensor | DeferredLogits | None]:
        wanted = [f.scores for f in feeds]
        if not any(wanted):
            return [None] * len(feeds)
        if sum(wanted) < x.shape[0]:
            x = torch.cat([x[b - k : b] for (_, b), k in zip(cuts, wanted, strict=True)])
        h = F.rms_norm(x, (self.hidden,), self.norm, self.eps)
        size = int(self.head.weight.shape[0])
        pieces = _cuts(wanted)
        few = [(a, b) for a, b in pieces if b - a <= WORTH]
        made: dict[tuple[int, int], torch.Tensor] = {}
        if few:
            logits = self.head(torch.cat([h[a:b] for a, b in few]) if len(few) < len(pieces) else h)
            made = dict(zip(few, logits.float().split([b - a for a, b in few]), strict=True))
        return [
            None if a == b
            else made[a, b] if b - a <= WORTH
            else DeferredLogits(h[a:b], self.head, size)
            for a, b in pieces
        ]  # fmt: skip


def _cuts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where each of consecutive pieces begins and ends."""
    out, at = [], 0
    for size in sizes:
        out.append((at, at + size))
        at += size
    return out


def _joined(parts: list[torch.nn.Linear], pack: Pack) -> Matrix:
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


def _fused(layer: Any, pack: Pack) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        layer.input_layernorm.weight,
        _joined([attention.q_proj, attention.k_proj, attention.v_proj], pack),
        Matrix(attention.o_proj.weight, None, pack),
        layer.post_attention_layernorm.weight,
        _joined([mlp.gate_proj, mlp.up_proj], pack),
        Matrix(mlp.down_proj.weight, None, pack),
    )


def compact_step(model: Any, second: bool = True) -> CompactStep | None:
    """The lean step where the model's structure allows one, else None. ``second``: whether it
    may make a second copy of the weights."""
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
    if is_int8(model):
        from tokenscope.backends.hf import compact_int8

        return compact_int8.Int8Step(model) if compact_int8.suits(model) else None
    return CompactStep(model, second)


def _windowed(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(k != "full_attention" for k in kinds)
    return bool(getattr(config, "sliding_window", None)) and getattr(
        config, "use_sliding_window", True
    )
