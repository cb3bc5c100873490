"""Key-value memory that grows in place and is forked without copying what is shared.

transformers' dynamic layer concatenates, so every step copies the whole cache. Here a layer is a
short chain of blocks with room to spare, and a step writes one row into the last. A fork holds the
same blocks; who appends where somebody else has written, or where somebody else still looks,
starts a block of its own behind them. So a branch costs its own tail, not its prefix.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

FIRST_ROOM = 64  # rows to spare in the first block; an eighth of its length if that is more
TAIL_ROOM = 3  # the same in a branch's own tail, of which there may be hundreds
MOST_PARTS = 4  # a longer chain costs more at every step than its shortest link


class Block:
    """A key and a value tensor (1, H, room, D).

    ``filled``: rows that anybody has written. ``held``: rows that more than one layer looks at;
    below that line nothing is ever written again. ``slab``: the memory that it is a row of
    (``hf.slab``), None where it is a piece of its own.
    """

    __slots__ = ("__weakref__", "filled", "held", "keys", "row", "slab", "values")

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, slab: object = None, row: int = 0
    ) -> None:
        self.keys = keys
        self.values = values
        self.slab = slab
        self.row = row
        self.filled = 0
        self.held = 0

    @classmethod
    def like(cls, keys: torch.Tensor, values: torch.Tensor, room: int) -> Block:
        """A new one; ``keys`` and ``values`` (1, H, n, D) tell shape, type and place."""
        shapes = [(t.shape[0], t.shape[1], room, t.shape[3]) for t in (keys, values)]
        return cls(keys.new_empty(shapes[0]), values.new_empty(shapes[1]))

    def copy(self, block: Block, count: int) -> None:
        """Take over the first ``count`` rows of another; nothing was written here before."""
        self.keys[:, :, :count] = block.keys[:, :, :count]
        self.values[:, :, :count] = block.values[:, :, :count]
        self.filled = count

    @property
    def room(self) -> int:
        """How many rows fit."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors, room included."""
        return self.keys.nbytes + self.values.nbytes


class GrowingLayer(DynamicLayer):
    """A full-history cache layer. Sliding windows are left to the mask, so any fork is right.

    ``parts``: blocks in order, and how many rows of each this layer looks at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[Block, int]] = []
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (1, H, n, D); give back (1, H, length, D) of everything so far.

        Of one block these are views, of a chain a copy that lives as long as the caller keeps it.
        """
        self.append(key_states, value_states)
        views = self.views()
        if len(views) == 1:
            return views[0]
        return torch.cat([k for k, _ in views], dim=2), torch.cat([v for _, v in views], dim=2)

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write (1, H, n, D) behind everything so far."""
        block, start, end = self.claim(keys, values, keys.shape[2])
        block.keys[:, :, start:end] = keys
        block.values[:, :, start:end] = values

    def claim(self, keys: torch.Tensor, values: torch.Tensor, count: int) -> tuple[Block, int, int]:
        """Room for ``count`` more rows: the block, where to write, and its end.

        ``keys`` and ``values`` (1, H, n, D) tell the shape. The caller writes at once.
        """
        block, used = self.parts[-1] if self.parts else (None, 0)
        if block is None or block.filled != used or block.room < used + count:
            block, used = self._fresh(keys, values, count)
        block.filled = end = used + count
        self.parts[-1] = (block, end)
        self.length += count
        return block, used, end

    def views(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values (1, H, rows, D) of each part."""
        return [(b.keys[:, :, :used], b.values[:, :, :used]) for b, used in self.parts]

    def _fresh(self, keys: torch.Tensor, values: torch.Tensor, count: int) -> tuple[Block, int]:
        """A last part with room for more: the old one, moved, if it is nobody else's; else new."""
        block, used = self.parts[-1] if self.parts else (None, 0)
        move = block is not None and (self.owns_last or len(self.parts) >= MOST_PARTS)
        kept = used if move else 0
        end = kept + count
        made = Block.like(keys, values, end + self._spare(len(self.parts) - move, end))
        if block is not None and kept:
            made.copy(block, kept)
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        if move:
            self.parts.pop()
        self.parts.append((made, kept))
        return made, kept

    @staticmethod
    def _spare(before: int, end: int) -> int:
        """Rows to spare in a block that ``before`` others stand in front of."""
        return max(TAIL_ROOM if before else FIRST_ROOM, end // 8)

    @property
    def owns_last(self) -> bool:
        """Whether nobody else looks at the last part or has written behind it."""
        if not self.parts:
            return False
        block, used = self.parts[-1]
        return block.filled == used and block.held == 0

    def seat(self, block: Block, move: bool) -> None:
        """Go on in ``block``: with the rows of the last part (``move``), or behind it."""
        kept = 0
        if move and self.parts:
            last, kept = self.parts.pop()
            block.copy(last, kept)
        self.dtype, self.device = block.keys.dtype, block.keys.device
        self.is_initialized = True
        self.parts.append((block, kept))

    def settle(self) -> None:
        """Every part that lies in a slab becomes a piece of its own, of the size that is used."""
        for n, (block, used) in enumerate(self.parts):
            if block.slab is not None:
                room = used + (0 if n else self._spare(n, used))
                made = Block.like(block.keys, block.values, room)
                made.copy(block, used)
                self.parts[n] = (made, used)

    def get_seq_length(self) -> int:
        """How many tokens this layer has seen."""
        return self.length

    def forked(self, length: int) -> GrowingLayer:
        """A layer of its own that has seen the first ``length`` tokens; shares the blocks."""
        other = GrowingLayer()
        other.parts = self._first(length)
        other.length = sum(used for _, used in other.parts)
        for block, used in other.parts:
            block.held = max(block.held, used)
        if other.parts:
            other.is_initialized = True
            other.dtype, other.device = self.dtype, self.device
        return other

    def back(self, count: int) -> None:
        """Forget the last ``count`` tokens, in place; what others look at stays untouched."""
        before = self.parts[-1] if self.parts else None
        self.parts = self._first(self.length - count)
        self.length -= count
        if before is not None and self.parts and self.parts[-1][0] is before[0]:
            block, used = self.parts[-1]
            if block.filled == before[1]:  # nobody has written behind what is forgotten
                block.filled = max(used, block.held)

    def _first(self, length: int) -> list[tuple[Block, int]]:
        out: list[tuple[Block, int]] = []
        left = length
        for block, used in self.parts:
            if left <= 0:
                break
            out.append((block, min(used, left)))
            left -= used
        return out


def plain_layers(config: Any) -> int | None:
    """How many cache layers the model needs if all are plain (sliding) attention, else None."""
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return len(layers) if layers and plain else None


def cache_argument(model: Any) -> str:
    """The name under which the family's forward takes its cache."""
    names = inspect.signature(model.forward).parameters
    return next((n for n in ("past_key_values", "cache_params") if n in names), "past_key_values")


def growing_cache(layers: list[GrowingLayer]) -> Any:
    """A transformers cache over growing layers."""
    cache = DynamicCache()
    cache.layers = layers
    return cache
