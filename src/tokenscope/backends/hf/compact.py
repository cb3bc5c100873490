"""A lean step for the families of ``hf.lean`` (Llama-like ones, Gemma, Phi3, GPT-2 ...): few tokens
of many states.

On a small model most of a step is the overhead of calling some hundred small modules. Here the
same arithmetic runs over the same weights with about twenty calls a layer; attention rows fall
out of it at no cost. The tokens of all feeds go through the weights together, and each state
attends to its own past. It is used only after the load-time probe has found it equal to the
family's own eager forward; every other model, and what lies beyond a sliding window, runs through
transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch.nn import functional as F

from tokenscope.backends.hf.batched import Batch
from tokenscope.backends.hf.cache import GrowingLayer
from tokenscope.backends.hf.deferred import WORTH, DeferredLogits
from tokenscope.backends.hf.int8 import is_int8
from tokenscope.backends.hf.lean import Family, Modules, Norm, read
from tokenscope.backends.hf.matrix import Matrix, Pack, joined
from tokenscope.backends.hf.slab import Slab, seated

ROPE_ROWS = 1024
MOST_TOKENS = 16  # of one feed; from there on the fused attention of a prefill is faster
BATCHED = 8  # of each of several feeds that attend in one go
PACKED_BYTES = 1 << 30  # a model whose weights are larger is not packed a second time
PACKED_SHARE = 0.5  # nor one whose second copy would take more than this share of free memory
TURNED_BYTES = 1 << 26  # of weights; up to there a transposed copy is the faster one


@dataclass(frozen=True, slots=True)
class LeanFeed:
    """One feed: ids, the state's layers, and of how many last tokens rows and scores are wanted."""

    ids: Sequence[int]
    cache: Sequence[GrowingLayer]
    rows: int
    scores: int


@dataclass(slots=True)
class _Layer:
    """One layer: q, k, v share a matrix, gate and up another. ``qk``: weights (H + kv, D) and
    epsilon of the norms of queries and keys."""

    norm: Norm
    qkv: Matrix
    out: Matrix
    norm_mlp: Norm
    up: Matrix
    down: Matrix
    qk: tuple[torch.Tensor, float] | None
    after: Norm | None
    after_mlp: Norm | None


class CompactStep:
    """The step function of one model. Build it with :func:`compact_step`."""

    def __init__(self, model: Any, second: bool = True, family: Family | None = None) -> None:
        family = family or read(model)
        assert family is not None
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
        self.embedding = table.weight
        size = sum(p.nbytes for p in model.parameters())
        suits = (
            self.embedding.device.type == "cpu" and self.embedding.dtype == torch.float32
            and size <= PACKED_BYTES and torch.backends.mkldnn.is_available()
        )  # fmt: skip
        pack: Pack = ""
        if second and suits and size <= PACKED_SHARE * psutil.virtual_memory().available:
            pack = "turned" if size <= TURNED_BYTES else "onednn"
        self._take(family, head, lambda parts: joined(parts, pack))
        self.packed_bytes = sum(m.packed_bytes for m in self._matrices())
        self.note = ""
        if pack:
            self.note = f"packed weights: a second copy of {self.packed_bytes / 1e6:.0f} MB"
        elif suits:
            self.note = "weights are not packed a second time: memory is short"

    def _take(self, family: Family, head: Any, matrix: Callable[[list[Any]], Matrix]) -> None:
        """Everything but the token table, whose sizes are looked at."""
        self.family = family
        self.heads, self.kv_heads, self.width = family.heads, family.kv_heads, family.width
        self.scale, self.limit = family.scale, family.limit
        self.hidden = int(self.embedding.shape[1])
        self.norm = family.norm
        self.factor = None if family.factor is None else family.factor.to(self.embedding.dtype)
        self.head = matrix([head])
        self.layers = [_layer(m, family, matrix) for m in family.layers]
        self._cos = self._sin = torch.empty(0, self.width)
        self._slab: Slab | None = None
        self._last: Batch | None = None  # holds its states: dropped when one of them rests

    def takes(self, past: int, count: int) -> bool:
        """Whether ``count`` tokens after ``past`` may go this way: no further than a sliding
        window reaches, and where scores are capped (no fused kernel does that) few at a time."""
        if self.family.softcap is not None and count > MOST_TOKENS:
            return False
        return self.limit is None or past + count <= self.limit

    def _matrices(self) -> list[Matrix]:
        inner = [m for w in self.layers for m in (w.qkv, w.out, w.up, w.down)]
        return [self.head, *inner]

    def _rope(self, spans: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """cos and signed sin (N, 1, D) of the positions in ``spans``, from a table that grows."""
        end = max(b for _, b in spans)
        if end > self._cos.shape[0]:
            rows = ROPE_ROWS * (end // ROPE_ROWS + 1)
            at = torch.arange(rows, device=self.embedding.device)[None]
            cos, sin = self.family.rotary(self.embedding[:1], at)
            half = cos.shape[-1] // 2
            # rotate_half(x) * sin == roll(x, half) * signed sin: one call less a layer
            self._cos = cos[0][:, None]
            self._sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)[:, None]
        return _picked([self._cos, self._sin], spans)

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
        cap, last = self.family.softcap, self._last
        self._last = batch = Batch(slab, caches, counts, self.kv_heads, group, cap, last)
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
        spans = [(start, start + len(f.ids)) for start, f in zip(starts, feeds, strict=True)]
        if total == 1:
            x = self.embedding[ids[0] : ids[0] + 1]  # (N, d)
        else:
            x = self.embedding[torch.tensor(ids, device=self.embedding.device)]
        if self.factor is not None:
            x = x * self.factor
        family = self.family
        if family.positions is not None:
            x = x + _picked([family.positions], spans)[0]
        rope = self._rope(spans) if family.rotary is not None else None
        attention: list[list[torch.Tensor]] = [[] for _ in feeds]
        for number, w in enumerate(self.layers):
            h = w.norm(x)
            qkv = w.qkv(h)
            if family.interleaved:
                qkv = qkv.view(total, heads, 3, width).transpose(1, 2)
            qkv = qkv.reshape(total, heads + 2 * kv, width)
            qk = qkv[:, : heads + kv]
            if w.qk is not None:
                qk = F.rms_norm(qk, (width,), None, w.qk[1]) * w.qk[0]
            if rope is not None:
                qk = _turned(qk, *rope)
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
            before = x
            x = w.out.add(o, x) if w.after is None else x + w.after(w.out(o))
            h = w.up(w.norm_mlp(before if family.parallel else x))
            if family.gated:
                gate, up = h.chunk(2, dim=-1)
                h = family.act(gate).mul_(up)
            else:
                h = family.act(h)
            x = w.down.add(h, x) if w.after_mlp is None else x + w.after_mlp(w.down(h))
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
        if (cap := self.family.softcap) is not None:
            score = score.div_(cap).tanh_().mul_(cap)
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
        h = self.norm(x)
        size = int(self.head.weight.shape[0])
        pieces = _cuts(wanted)
        few = [(a, b) for a, b in pieces if b - a <= WORTH]
        made: dict[tuple[int, int], torch.Tensor] = {}
        if few:
            logits = self._scores(
                torch.cat([h[a:b] for a, b in few]) if len(few) < len(pieces) else h
            )
            made = dict(zip(few, logits.float().split([b - a for a, b in few]), strict=True))
        return [
            None if a == b
            else made[a, b] if b - a <= WORTH
            else DeferredLogits(h[a:b], self._scores, size)
            for a, b in pieces
        ]  # fmt: skip

    def _scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, d) after the last norm to logits (n, V)."""
        logits, cap = self.head(hidden), self.family.cap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _cuts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where each of consecutive pieces begins and ends."""
    out, at = [], 0
    for size in sizes:
        out.append((at, at + size))
        at += size
    return out


def _picked(tables: Sequence[torch.Tensor], spans: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """The rows of tables that lie in ``spans``, one after the other."""
    if len(spans) == 1:
        a, b = spans[0]
        return [t[a:b] for t in tables]
    if len(spans) * 2 > sum(b - a for a, b in spans):
        index = torch.tensor([t for a, b in spans for t in range(a, b)], device=tables[0].device)
        return [t[index] for t in tables]
    return [torch.cat([t[a:b] for a, b in spans]) for t in tables]


def _turned(qk: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries and keys (N, heads, D), rotated by position; all of each head, or its first part."""
    wide = cos.shape[-1]
    part = qk if wide == qk.shape[-1] else qk[..., :wide]
    out = torch.addcmul(part * cos, part.roll(wide // 2, -1), sin)
    return out if part is qk else torch.cat([out, qk[..., wide:]], dim=-1)


def _layer(m: Modules, family: Family, matrix: Callable[[list[Any]], Matrix]) -> _Layer:
    qk = None
    if m.qk is not None:
        q, k = m.qk
        wide = (family.heads, -1), (family.kv_heads, -1)
        qk = torch.cat([q.weight.expand(wide[0]), k.weight.expand(wide[1])]), q.eps
    return _Layer(
        m.norm, matrix(m.qkv), matrix([m.out]), m.norm_mlp, matrix(m.up), matrix([m.down]), qk,
        m.after, m.after_mlp,
    )  # fmt: skip


def compact_step(model: Any, second: bool = True) -> CompactStep | None:
    """The lean step where the model's structure allows one, else None. ``second``: whether it
    may make a second copy of the weights."""
    family = read(model)
    if family is None:
        return None
    if is_int8(model):
        from tokenscope.backends.hf import compact_int8

        return compact_int8.step(model, family)
    return CompactStep(model, second, family)
