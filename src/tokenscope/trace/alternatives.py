"""The K most likely tokens at every position, with their logprobs and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError


@dataclass(frozen=True, slots=True)
class Alternative:
    """One candidate at a position. ``rank`` counts from 1; ``chosen`` marks the trace's token."""

    id: int
    bytes: bytes
    label: str | None
    logprob: float
    rank: int
    chosen: bool


@dataclass(frozen=True, eq=False)
class Alternatives:
    """``ids`` int32 (T, K), -1 where there is none (row 0); ``logprobs`` float32 (T, K) in nats.

    Rows are sorted by logprob, most likely first. ``pieces`` and ``labels`` hold the bytes and
    the special literals of every id that occurs, so that a trace stands alone.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    pieces: Mapping[int, bytes] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = np.ascontiguousarray(self.ids, dtype=np.int32)
        logprobs = np.ascontiguousarray(self.logprobs, dtype=np.float32)
        if ids.ndim != 2 or ids.shape != logprobs.shape:
            raise InputError("alternatives", f"shapes differ: {ids.shape}, {logprobs.shape}")
        ids.flags.writeable = False
        logprobs.flags.writeable = False
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "logprobs", logprobs)

    @property
    def k(self) -> int:
        """How many alternatives each row holds."""
        return int(self.ids.shape[1])

    @property
    def rest(self) -> NDArray[np.float32]:
        """float32 (T,): the probability that the K alternatives leave to all other tokens."""
        rows = np.exp(self.logprobs.astype(np.float64)).sum(axis=1)
        rest: NDArray[np.float32] = np.clip(1.0 - rows, 0.0, 1.0).astype(np.float32)
        rest[(self.ids < 0).all(axis=1)] = np.nan
        return rest

    def row(self, t: int, chosen: int | None = None) -> list[Alternative]:
        """The alternatives of token ``t``, most likely first (empty for token 0)."""
        return [
            Alternative(
                int(i), self.pieces.get(int(i), b""), self.labels.get(int(i)), float(p), r + 1,
                int(i) == chosen,
            )
            for r, (i, p) in enumerate(zip(self.ids[t], self.logprobs[t], strict=True))
            if i >= 0
        ]  # fmt: skip

    def slice(self, start: int, end: int) -> Alternatives:
        """Rows ``start..end``; the byte table is shared."""
        return Alternatives(self.ids[start:end], self.logprobs[start:end], self.pieces, self.labels)
