"""Attention of a few new tokens in each of many states, in a handful of products a layer.

The tails lie in one slab, so one product gives all their scores. A block that stands before the
tails of several states (the prefix of branches) is multiplied once by the queries of all of them.
The columns of the score matrix are areas: one for the slab, and before it one for each block, where
blocks that no state has both of share columns; what a state does not have is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.backends.hf.cache import Block, GrowingLayer
from tokenscope.backends.hf.slab import Slab
from tokenscope.backends.protocol import RowBatch, RowsOf

Users = slice | torch.Tensor


class _Shared:
    """A block before the tails: where it stands, whose it is, its columns ``at..at+width``."""

    __slots__ = ("at", "part", "users", "wide", "width")

    def __init__(self, part: int) -> None:
        self.part = part
        self.users: list[int] = []
        self.width = self.at = 0
        self.wide: Users = slice(0, 0)


class Batch:
    """One pass: S states, each with 1 to Q new tokens, taken in the ``order`` of their rows."""

    first: int
    slots: list[int]
    states: int
    queries: int
    past: list[int]
    before: list[int]  # tokens in the slab, before this pass
    tail: int
    prefix: int
    _write: torch.Tensor
    _spread: torch.Tensor | None
    _keys: NDArray[np.int32] | None
    _mask: torch.Tensor | None
    _shared: list[_Shared]
    _tails: list[tuple[Block, int]]

    def __init__(
        self, slab: Slab, caches: Sequence[Sequence[GrowingLayer]], counts: Sequence[int],
        kv: int, group: int, softcap: float | None = None, last: Batch | None = None,
    ) -> None:  # fmt: skip
        """``counts``: new tokens of each state; room for them is claimed here, in all layers.

        ``last``: the pass before. Where the same states take one token more each, as they do most
        of the time, what it knew is carried on.
        """
        self.softcap = softcap
        rows = [c[0].parts[-1][0].row for c in caches]
        self.order = sorted(range(len(rows)), key=rows.__getitem__)
        self.slab, self.kv, self.group = slab, kv, group
        self.caches = [caches[n] for n in self.order]
        self.counts = [counts[n] for n in self.order]
        if last is not None and last.goes_on(self):
            self._carry_on(last)
        else:
            self._begin([rows[n] for n in self.order])
        past = np.zeros(self.states, dtype=np.int64)
        past[self.slots] = self.past
        self.rows = RowBatch([], self.keys, past)
        for cache, n in zip(self.caches, self.counts, strict=True):
            block, used = cache[0].parts[-1]
            end = used + n
            for layer in cache:
                block = layer.parts[-1][0]
                block.filled = end
                layer.parts[-1] = (block, end)
                layer.length += n

    def goes_on(self, other: Batch) -> bool:
        """Whether ``other`` is of the same states, each behind its one token, with one more."""
        return (
            self.slab is other.slab and self.counts == other.counts and self.queries == 1
            and all(
                mine[0] is c[0] and c[0].length == past + 1 and c[0].parts[-1][1] == before + 1
                and c[0].parts[-1][0] is tail and len(c[0].parts) == parts
                for mine, c, past, before, (tail, parts) in
                zip(self.caches, other.caches, self.past, self.before, self._tails, strict=True)
            )
        )  # fmt: skip

    def _carry_on(self, last: Batch) -> None:
        self.first, self.slots, self.states = last.first, last.slots, last.states
        self.queries, self.prefix = last.queries, last.prefix
        self._tails, self._shared, self._spread = last._tails, last._shared, last._spread
        self.past = [n + 1 for n in last.past]
        self.before = [n + 1 for n in last.before]
        self.tail = last.tail + 1
        self._write = last._write + 1
        new = [self.prefix + n for n in self.before]
        keys = np.full((self.states, self.prefix + self.tail), -1, dtype=np.int32)
        keys[:, :-1] = last.keys()
        keys[self.slots, new] = self.past
        self._keys = keys
        self._mask = last._mask
        if last._mask is not None:
            mask = torch.nn.functional.pad(last._mask, (0, 1), value=-torch.inf)
            mask[self.slots, :, :, :, new] = 0.0
            self._mask = mask

    def _begin(self, rows: Sequence[int]) -> None:
        """``rows``: of the slab, in rising order."""
        slab, kv, caches, counts = self.slab, self.kv, self.caches, self.counts
        self.first, last = min(rows), max(rows) + 1
        self.slots = [r - self.first for r in rows]
        self.states, self.queries = last - self.first, max(counts)
        self.past = [c[0].length for c in caches]
        self.before = [c[0].parts[-1][1] for c in caches]
        self.tail = max(b + n for b, n in zip(self.before, counts, strict=True))
        self._shared = self._areas()
        self.prefix = max((s.at + s.width for s in self._shared), default=0)
        device = slab.both[0].device
        where = [
            [(row * kv + h) * slab.room + b + j for j in range(n) for h in range(kv)]
            for row, b, n in zip(rows, self.before, counts, strict=True)
        ]
        self._write = torch.tensor([i for w in where for i in w], device=device)
        # queries stand at slot * Q + j; with one token each and no gap that is their own order
        self._spread = None
        if self.queries > 1 or self.slots != list(range(self.states)):
            at = [s * self.queries + j for s, n in zip(self.slots, counts, strict=True)
                  for j in range(n)]  # fmt: skip
            self._spread = torch.tensor(at, device=device)
        self._keys = None
        self._mask = self._masked(device)
        self._tails = [(c[0].parts[-1][0], len(c[0].parts)) for c in caches]

    def _areas(self) -> list[_Shared]:
        """The blocks before the tails, each with columns that none of its states uses twice."""
        found: dict[int, _Shared] = {}
        for n, cache in enumerate(self.caches):
            for part, (block, used) in enumerate(cache[0].parts[:-1]):
                one = found.setdefault(id(block), _Shared(part))
                one.users.append(n)
                one.width = max(one.width, used)
        ends = [0] * len(self.caches)
        for one in found.values():  # in the order of the chains
            one.at = max(ends[n] for n in one.users)
            for n in one.users:
                ends[n] = one.at + one.width
            slots = sorted(self.slots[n] for n in one.users)
            whole = slots == list(range(slots[0], slots[0] + len(slots)))
            one.wide = slice(slots[0], slots[-1] + 1)
            if not whole:
                one.wide = torch.tensor(slots, device=self.slab.both[0].device)
        return list(found.values())

    def keys(self) -> NDArray[np.int32]:
        """int32 (slots, columns): the position that each column stands for, -1: none."""
        if self._keys is None:
            out = np.full((self.states, self.prefix + self.tail), -1, dtype=np.int32)
            areas = {id(self.caches[s.users[0]][0].parts[s.part][0]): s.at for s in self._shared}
            for n, cache in enumerate(self.caches):
                row, start = out[self.slots[n]], 0
                for block, used in cache[0].parts[:-1]:
                    at = areas[id(block)]
                    row[at : at + used] = np.arange(start, start + used)
                    start += used
                size = self.before[n] + self.counts[n]
                row[self.prefix : self.prefix + size] = np.arange(start, start + size)
            self._keys = out
        return self._keys

    def _masked(self, device: torch.device) -> torch.Tensor | None:
        """float (slots, 1, Q, 1, columns) to add: -inf at what a query may not look at."""
        if not self._shared and self.queries == 1 and len(set(self.before)) == 1:
            return None
        keys = self.keys()
        seen = np.zeros((self.states, self.queries), dtype=np.int32)
        seen[self.slots] = np.array(self.past)[:, None] + np.arange(self.queries)
        barred = (keys < 0)[:, None] | (keys[:, None] > seen[:, :, None])
        idle = np.ones(self.states, dtype=bool)
        idle[self.slots] = False
        barred[idle] = False  # nobody's rows: any finite numbers will do
        zero = torch.zeros(barred.shape, dtype=self.slab.both[0].dtype, device=device)
        mask = zero.masked_fill_(torch.from_numpy(barred).to(device), -torch.inf)
        return mask[:, None, :, None]

    def attend(
        self, number: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        """(N, H, D) scaled queries, (N, kv, D) keys and values of layer ``number`` to (N, H*D)."""
        kv, group, width = self.kv, self.group, q.shape[-1]
        states, queries = self.states, self.queries
        flat_k, flat_v = self.slab.flat[number]
        flat_k.index_copy_(0, self._write, k.reshape(-1, width))
        flat_v.index_copy_(0, self._write, v.reshape(-1, width))
        if self._spread is not None:
            wide = q.new_zeros(states * queries, kv * group, width)
            q = wide.index_copy_(0, self._spread, q)
        q = q.reshape(states, queries, kv, group, width)
        if queries > 1:
            q = q.transpose(1, 2)
        q = q.reshape(states * kv, queries * group, width)
        held = self.slab.both[number][:, self.first : self.first + states]
        held = held.view(2, states * kv, self.slab.room, width)[:, :, : self.tail]
        scores = torch.bmm(q, held[0].transpose(1, 2)).view(states, kv, queries, group, -1)
        if self._shared:
            scores = torch.cat([self._before(number, q), scores], dim=-1)
        if self.softcap is not None:
            scores = scores.div_(self.softcap).tanh_().mul_(self.softcap)
        if self._mask is not None:
            scores += self._mask
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
        self.rows.weights.append(weights)
        w = weights.to(q.dtype).view(states * kv, queries * group, -1)
        out = torch.bmm(w[:, :, self.prefix :], held[1])
        if self._shared:
            self._add(number, w, out)
        if queries > 1:
            out = out.view(states, kv, queries, group * width).transpose(1, 2)
        out = out.reshape(states * queries, -1)
        return out if self._spread is None else out[self._spread]

    def _before(self, number: int, q: torch.Tensor) -> torch.Tensor:
        """Scores (slots, kv, Q, group, prefix columns) of the blocks before the tails."""
        kv, width = self.kv, q.shape[-1]
        q = q.view(self.states, kv, -1, width)
        scores = q.new_zeros(self.states, kv, q.shape[2], self.prefix)
        for one in self._shared:
            block, _ = self.caches[one.users[0]][number].parts[one.part]
            mine = q[one.wide].transpose(0, 1).reshape(kv, -1, width)
            found = torch.bmm(mine, block.keys[0, :, : one.width].transpose(1, 2))
            found = found.view(kv, len(one.users), -1, one.width).transpose(0, 1)
            scores[one.wide, :, :, one.at : one.at + one.width] = found
        return scores.view(self.states, kv, self.queries, self.group, -1)

    def _add(self, number: int, w: torch.Tensor, out: torch.Tensor) -> None:
        """Add what the blocks before the tails give to ``out`` (slots * kv, Q * group, D)."""
        kv, width = self.kv, out.shape[-1]
        out = out.view(self.states, kv, -1, width)
        w = w.view(self.states, kv, out.shape[2], -1)
        for one in self._shared:
            block, _ = self.caches[one.users[0]][number].parts[one.part]
            mine = w[one.wide, :, :, one.at : one.at + one.width].transpose(0, 1)
            found = torch.bmm(mine.reshape(kv, -1, one.width), block.values[0, :, : one.width])
            out[one.wide] += found.view(kv, len(one.users), -1, width).transpose(0, 1)

    def rows_of(self, n: int, rows: int) -> Sequence[Any]:
        """The last ``rows`` attention rows of state ``n``, cut out when they are asked for."""
        if not rows:
            return []
        return RowsOf(self.rows, self.slots[n], self.counts[n] - rows, self.counts[n])
