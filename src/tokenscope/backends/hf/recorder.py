"""The watching part of decoding: attention rows of the last queries, kept as they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from tokenscope.backends.hf.attention_kernel import KERNEL, Edges, active, register
from tokenscope.backends.hf.changes import Change, shift

__all__ = ["KERNEL", "Sink", "recording", "register"]


class Sink:
    """Where the rows of one forward go: ``rows[layer]`` is float32 (H, last, keys)."""

    __slots__ = ("changes", "last", "rows")

    def __init__(self, last: int, changes: Sequence[Change] = ()) -> None:
        self.last = last
        self.changes = changes
        self.rows: dict[int, torch.Tensor] = {}

    def wanted(self, layer: int, offset: int, n: int) -> tuple[int, int]:
        """The last ``last`` rows."""
        return n - min(self.last, n), n

    def see(self, layer: int, first: int, weights: torch.Tensor, values: torch.Tensor) -> None:
        """Keep them."""
        self.rows[layer] = weights[0].float()

    def edges_in(self, layer: int) -> Edges:
        """Decoding cuts no single edge."""
        return ()

    def shift(
        self, layer: int, first: int, n: int, keys: int, like: torch.Tensor, heads: int
    ) -> torch.Tensor | None:
        """What attention edits add to the scores."""
        return shift(self.changes, layer, first, n, keys, like, heads) if self.changes else None

    def block(self, batch_heads: int, keys: int) -> int:
        """All at once: what is kept is held in full anyway."""
        return keys


@contextmanager
def recording(last: int, changes: Sequence[Change] = ()) -> Iterator[Sink | None]:
    """Record the rows of the last ``last`` queries of every forward inside the block, under
    ``changes`` of attention."""
    if last <= 0 and not changes:
        yield None
        return
    sink = Sink(last, changes)
    with active(sink):
        yield sink
