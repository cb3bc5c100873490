"""The watching part of decoding: attention rows of the last queries, kept as they are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tokenscope.backends.hf.attention_kernel import KERNEL, Edges, active, register

__all__ = ["KERNEL", "Sink", "recording", "register"]


class Sink:
    """Where the rows of one forward go: ``rows[layer]`` is float32 (H, last, keys)."""

    __slots__ = ("last", "rows")

    def __init__(self, last: int) -> None:
        self.last = last
        self.rows: dict[int, torch.Tensor] = {}

    def wanted(self, layer: int, offset: int, n: int) -> tuple[int, int]:
        """The last ``last`` rows."""
        return n - min(self.last, n), n

    def see(self, layer: int, first: int, weights: torch.Tensor, values: torch.Tensor) -> None:
        """Keep them."""
        self.rows[layer] = weights[0].float()

    def edges_in(self, layer: int) -> Edges:
        """Decoding changes nothing here."""
        return ()

    def block(self, batch_heads: int, keys: int) -> int:
        """All at once: what is kept is held in full anyway."""
        return keys


@contextmanager
def recording(last: int) -> Iterator[Sink | None]:
    """Record the rows of the last ``last`` queries of every forward inside the block."""
    if last <= 0:
        yield None
        return
    sink = Sink(last)
    with active(sink):
        yield sink
