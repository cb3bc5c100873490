"""Key-value memory that grows in place and is forked without copying what is shared.

transformers' dynamic layer concatenates, so every step copies the whole cache. Here a layer owns
a block with room to spare; a step writes one row. A fork shares the block and copies it only when
somebody else has written past the fork's own end (copy on write).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

MIN_ROOM = 256


class Block:
    """A key and a value tensor (1, H, room, D) and how many rows anybody has written."""

    __slots__ = ("filled", "keys", "values")

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, filled: int) -> None:
        self.keys = keys
        self.values = values
        self.filled = filled

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors, room included."""
        return self.keys.nbytes + self.values.nbytes


class GrowingLayer(DynamicLayer):
    """A full-history cache layer. Sliding windows are left to the mask, so any fork is right."""

    def __init__(self) -> None:
        super().__init__()
        self.block: Block | None = None
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (1, H, n, D); give back views (1, H, length, D) of everything so far."""
        n = self.length
        end = n + key_states.shape[-2]
        block = self.block
        if block is None or block.filled != n or block.keys.shape[-2] < end:
            block = self._grown(key_states, value_states, end)
        block.keys[:, :, n:end] = key_states
        block.values[:, :, n:end] = value_states
        block.filled = self.length = end
        self.keys = block.keys[:, :, :end]
        self.values = block.values[:, :, :end]
        return self.keys, self.values

    def _grown(self, keys: torch.Tensor, values: torch.Tensor, end: int) -> Block:
        room = max(MIN_ROOM, end + max(MIN_ROOM, end // 2))
        fresh = []
        for like, old in ((keys, "keys"), (values, "values")):
            shape = (like.shape[0], like.shape[1], room, like.shape[3])
            tensor = torch.empty(shape, dtype=like.dtype, device=like.device)
            if self.block is not None and self.length:
                tensor[:, :, : self.length] = getattr(self.block, old)[:, :, : self.length]
            fresh.append(tensor)
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.block = Block(fresh[0], fresh[1], self.length)
        return self.block

    def back(self, count: int) -> None:
        """Forget the last ``count`` rows of the last update; nobody else has seen them."""
        assert self.block is not None
        self.length -= count
        self.block.filled = self.length
        self.keys = self.block.keys[:, :, : self.length]
        self.values = self.block.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """How many tokens this layer has seen."""
        return self.length

    def forked(self, length: int) -> GrowingLayer:
        """A layer of its own that has seen the first ``length`` tokens; shares the block."""
        other = GrowingLayer()
        other.length = min(length, self.length)
        other.block = self.block
        if self.block is not None:
            other.is_initialized = True
            other.dtype, other.device = self.dtype, self.device
            other.keys = self.block.keys[:, :, : other.length]
            other.values = self.block.values[:, :, : other.length]
        return other


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
