"""Recorded attention: row ``t`` is what the step that chose token ``t`` looked at.

Row ``t`` is the row of the query at position ``t - 1`` over the keys ``0..t-1``. Two forms:

``top``   the k heaviest keys of each row, the sink (key 0) and the mass of all the rest:
          ``layers * heads * (k * 4 + 4)`` bytes a token (k uint16 keys, k float16 weights, two
          float16 masses), whatever the length of the context.
``full``  every weight as float16: ``layers * heads * t * 2`` bytes for token ``t``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError

TOP_K = 16
NO_KEY = 65535


def top_bytes_per_token(layers: int, heads: int, k: int = TOP_K) -> int:
    """Bytes that one recorded token takes in ``top`` form."""
    return layers * heads * (k * 4 + 4)


@dataclass(frozen=True, eq=False)
class Attention:
    """Rows of the tokens ``first..first+n-1`` for every attention layer and head.

    ``layers`` are the model's layer numbers that have attention (a hybrid has gaps).
    ``top``:  ``keys`` uint16 (n, L, H, k) with NO_KEY as padding, ``weights`` float16 (n, L, H, k),
    ``sink`` and ``rest`` float16 (n, L, H).  ``full``: ``weights`` float16, flat; the block of
    token ``t`` is (L, H, t), blocks follow one another.
    """

    form: Literal["top", "full"]
    layers: tuple[int, ...]
    heads: int
    first: int
    weights: NDArray[np.float16]
    keys: NDArray[np.uint16] | None = None
    sink: NDArray[np.float16] | None = None
    rest: NDArray[np.float16] | None = None

    @property
    def count(self) -> int:
        """How many tokens have recorded rows."""
        if self.form == "top":
            return int(self.weights.shape[0])
        per = len(self.layers) * self.heads
        if per == 0:
            return 0
        # sum of t for t in first..first+n-1 equals size / per; solve the quadratic for n
        total = self.weights.size // per
        b = 2 * self.first - 1
        return round((-b + math.sqrt(b * b + 8 * total)) / 2)

    @property
    def nbytes(self) -> int:
        """Bytes held by all arrays."""
        arrays = (self.weights, self.keys, self.sink, self.rest)
        return sum(a.nbytes for a in arrays if a is not None)

    def has(self, t: int) -> bool:
        """Whether token ``t`` has recorded rows."""
        return self.first <= t < self.first + self.count

    def _layer(self, layer: int) -> int:
        try:
            return self.layers.index(layer)
        except ValueError:
            raise InputError(
                "layer", f"{layer} has no attention; layers with attention: {list(self.layers)}"
            ) from None

    def block(self, t: int) -> NDArray[np.float32]:
        """float32 (L, H, t): all rows of token ``t``, dense; ``top`` leaves unrecorded keys 0.

        Raises InputError when ``t`` has no recorded rows.
        """
        if not self.has(t):
            raise InputError(
                "t", f"token {t} has no recorded row; recorded: {self.first}.."
                f"{self.first + self.count - 1}"
            )  # fmt: skip
        layers, heads = len(self.layers), self.heads
        if self.form == "full":
            before = t * (t - 1) // 2 - self.first * (self.first - 1) // 2
            flat = self.weights[before * layers * heads : (before + t) * layers * heads]
            return flat.reshape(layers, heads, t).astype(np.float32)
        assert self.keys is not None and self.sink is not None
        i = t - self.first
        dense = np.zeros((layers, heads, t), dtype=np.float32)
        li, hi, ki = np.nonzero(self.keys[i] != NO_KEY)
        dense[li, hi, self.keys[i][li, hi, ki]] = self.weights[i][li, hi, ki]
        dense[:, :, 0] = self.sink[i]
        return dense

    def row(self, layer: int, head: int, t: int) -> NDArray[np.float32]:
        """float32 (t,): what token ``t`` attended to in one head. Raises InputError (see block)."""
        index = self._layer(layer)
        if not 0 <= head < self.heads:
            raise InputError("head", f"must lie in 0..{self.heads - 1}")
        out: NDArray[np.float32] = self.block(t)[index, head]
        return out

    def unrecorded(self, layer: int, head: int, t: int) -> float:
        """The mass that the row leaves to keys that ``top`` did not keep (0 for ``full``)."""
        if self.rest is None:
            return 0.0
        return float(self.rest[t - self.first, self._layer(layer), head])

    def only(self, t: int) -> Attention:
        """The rows of token ``t`` alone. Raises InputError when it has none (see block)."""
        part = self.slice(t + 1)
        if part is None or not self.has(t):
            raise InputError("t", f"token {t} has no recorded row")
        if self.form == "full":
            size = t * len(self.layers) * self.heads
            return Attention("full", self.layers, self.heads, t, part.weights[-size:])
        i = t - self.first
        assert part.keys is not None and part.sink is not None and part.rest is not None
        return Attention(
            "top", self.layers, self.heads, t, part.weights[i:], part.keys[i:], part.sink[i:],
            part.rest[i:],
        )  # fmt: skip

    def slice(self, end: int) -> Attention | None:
        """The rows of tokens below ``end`` only; None when nothing is left."""
        n = min(self.count, end - self.first)
        if n <= 0:
            return None
        if self.form == "full":
            size = sum(range(self.first, self.first + n)) * len(self.layers) * self.heads
            return Attention("full", self.layers, self.heads, self.first, self.weights[:size])
        assert self.keys is not None and self.sink is not None and self.rest is not None
        return Attention(
            "top", self.layers, self.heads, self.first, self.weights[:n], self.keys[:n],
            self.sink[:n], self.rest[:n],
        )  # fmt: skip


def follows(a: Attention, b: Attention) -> bool:
    """Whether ``b`` goes on where ``a`` ends, in the same form."""
    return a.first + a.count == b.first and a.form == b.form and a.layers == b.layers


def last_run(parts: Sequence[Attention]) -> list[Attention]:
    """The longest tail of records that follow one another."""
    breaks = [i for i, (a, b) in enumerate(itertools.pairwise(parts), 1) if not follows(a, b)]
    return list(parts[breaks[-1] if breaks else 0 :])


def join(parts: Sequence[Attention]) -> Attention | None:
    """Consecutive records as one. Raises InputError on a gap or on differing forms."""
    if not parts:
        return None
    head = parts[0]
    for a, b in itertools.pairwise(parts):
        if not follows(a, b):
            raise InputError("attention", f"records do not join at token {b.first}")
    weights = np.concatenate([p.weights for p in parts])
    if head.form == "full":
        return Attention("full", head.layers, head.heads, head.first, weights)
    cat = lambda name: np.concatenate([getattr(p, name) for p in parts])
    return Attention(
        "top", head.layers, head.heads, head.first, weights, cat("keys"), cat("sink"), cat("rest")
    )
