"""Tails of the states that decode together, side by side, so that one product reads them all.

What costs in a pass over many states is calls, not arithmetic. So the last block of each state
that goes along is a row of one piece of memory per layer. A short block is moved there; a long
one, or one that others look at, stays where it is and a new tail begins in the slab. A state that
is kept for later is settled: its rows are copied out again, to the size that they have.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from tokenscope.backends.hf.cache import MOST_PARTS, Block, GrowingLayer

MOVED = 512  # a longer last part is not moved
SPARE = 64  # rows to spare in a new slab; an eighth of the longest tail if that is more


class Slab:
    """``rows`` tails of at most ``room`` tokens: ``both[layer]`` is (2, rows, H, room, D).

    Zeroed, so that what nobody wrote is finite: it is read, and weighs nothing.
    """

    def __init__(self, layers: int, rows: int, room: int, like: torch.Tensor) -> None:
        """``like`` (1, H, n, D) tells the rest of the shape, type and place."""
        _, heads, _, width = like.shape
        self.rows, self.room = rows, room
        self.both = [like.new_zeros((2, rows, heads, room, width)) for _ in range(layers)]
        self.flat = [(b[0].view(-1, width), b[1].view(-1, width)) for b in self.both]
        self._held: list[weakref.ref[Block] | None] = [None] * rows  # blocks of the first layer

    def free(self) -> list[int]:
        """Rows that no block stands for any more."""
        return [n for n, held in enumerate(self._held) if held is None or held() is None]

    def take(self, row: int, layer: int) -> Block:
        """A block over a free row."""
        both = self.both[layer]
        block = Block(both[0, row : row + 1], both[1, row : row + 1], self, row)
        if layer == 0:
            self._held[row] = weakref.ref(block)
        return block


def seated(
    slab: Slab | None, caches: Sequence[Sequence[GrowingLayer]], counts: Sequence[int],
    like: torch.Tensor,
) -> Slab:  # fmt: skip
    """The slab in which every state's last part has room for its ``counts`` of tokens more.

    The same one where it serves; else a new one, to which all move.
    """
    new = [n for n, c in enumerate(caches) if not _sits(slab, c[0], counts[n])]
    if not new and slab is not None and len(caches) * 2 >= slab.rows - len(slab.free()):
        return slab
    need = max(_tail(c[0]) + n for c, n in zip(caches, counts, strict=True))
    free = slab.free() if slab is not None else []
    # rows of states that rest are read in vain: half of them, and those that go along move on
    if slab is None or slab.room < need or len(free) < len(new) or not new:
        rows = len(caches) + max(4, len(caches) // 2)
        slab = Slab(len(caches[0]), rows, need + max(SPARE, need // 8), like)
        new, free = list(range(len(caches))), list(range(rows))
    for n, row in zip(new, free, strict=False):
        move = _moves(caches[n][0])
        for number, layer in enumerate(caches[n]):
            if not move:
                layer.settle()  # a long tail leaves its slab, or all of that slab would stay
            layer.seat(slab.take(row, number), move)
    return slab


def _sits(slab: Slab | None, layer: GrowingLayer, count: int) -> bool:
    if slab is None or not layer.parts:
        return False
    block, used = layer.parts[-1]
    return block.slab is slab and block.filled == used and used + count <= slab.room


def _moves(layer: GrowingLayer) -> bool:
    """Whether the last part is copied into the slab: a short one, or one part too many."""
    if not layer.parts or layer.parts[-1][1] > MOVED:
        return False
    return layer.owns_last or len(layer.parts) >= MOST_PARTS


def _tail(layer: GrowingLayer) -> int:
    """Tokens that the state's part in the slab has, or would have."""
    return layer.parts[-1][1] if _moves(layer) else 0
