"""Recorded attention: row ``t`` is what the step that chose token ``t`` looked at.

Row ``t`` is the row of the query at position ``t - 1`` over the keys ``0..t-1``. Two forms:

``top``   the k heaviest keys of each row, the sink (key 0) and the mass of all the rest:
          ``layers * heads * (k * 4 + 4)`` bytes a token (k uint16 keys, k float16 weights, two
          float16 masses), whatever the length of the context.
``full``  every weight as float16: ``layers * heads * t * 2`` bytes for token ``t``.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import CapacityError, InputError, StoreDamaged
from tokenscope.trace.container import Stored

TOP_K = 16
NO_KEY = 65535
# a record of this size is shared rather than copied when more rows follow
SHARED = 8 << 20
MOST_VALUES = 1 << 30  # of one token's rows; 126 layers of 128 heads at 65,000 tokens

Held = NDArray[Any] | Stored


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

    The arrays may lie in a file (``Stored``): a row is read when it is asked for. ``more``: the
    records that go on where this one ends, so that a branch shares its parent's rows and a
    growing record is not copied again and again.
    """

    form: Literal["top", "full"]
    layers: tuple[int, ...]
    heads: int
    first: int
    weights: Held
    keys: Held | None = None
    sink: Held | None = None
    rest: Held | None = None
    more: tuple[Attention, ...] = ()

    @property
    def own_count(self) -> int:
        """How many tokens have rows in the arrays of this record itself."""
        if self.form == "top":
            return int(self.weights.shape[0])
        per = len(self.layers) * self.heads
        if per == 0:
            return 0
        # sum of t for t in first..first+n-1 equals size / per; solve the quadratic for n
        total = self.weights.size // per
        b = 2 * self.first - 1
        return (math.isqrt(b * b + 8 * total) - b) // 2

    @property
    def count(self) -> int:
        """How many tokens have recorded rows."""
        return self.own_count + sum(a.own_count for a in self.more)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, in memory or in a file."""
        return sum(a.nbytes for b in self.blocks() for a in b.arrays().values())

    @property
    def held(self) -> int:
        """Bytes of the arrays that are in memory."""
        return sum(
            a.nbytes
            for b in self.blocks() for a in b.arrays().values() if isinstance(a, np.ndarray)
        )  # fmt: skip

    def arrays(self) -> dict[str, Held]:
        """The arrays of this record itself by name."""
        found = {n: getattr(self, n) for n in ("weights", "keys", "sink", "rest")}
        return {n: a for n, a in found.items() if a is not None}

    def blocks(self) -> tuple[Attention, ...]:
        """The records that this one is made of, each by itself, in order."""
        return (replace(self, more=()) if self.more else self, *self.more)

    def has(self, t: int) -> bool:
        """Whether token ``t`` has recorded rows."""
        return self.first <= t < self.first + self.count

    def _holder(self, t: int) -> Attention:
        """The record whose own arrays hold token ``t``."""
        if not self.has(t):
            raise InputError(
                "t", f"token {t} has no recorded row; recorded: {self.first}.."
                f"{self.first + self.count - 1}"
            )  # fmt: skip
        i = bisect.bisect_right(self.more, t, key=lambda a: a.first)
        return self.more[i - 1] if i else self

    def _layer(self, layer: int) -> int:
        try:
            return self.layers.index(layer)
        except ValueError:
            raise InputError(
                "layer", f"{layer} has no attention; layers with attention: {list(self.layers)}"
            ) from None

    def block(self, t: int) -> NDArray[np.float32]:
        """float32 (L, H, t): all rows of token ``t``, dense; ``top`` leaves unrecorded keys 0.

        Raises InputError when ``t`` has no recorded rows, StoreDamaged when a file holds keys
        after ``t`` or has been cut short.
        """
        held = self._holder(t)
        layers, heads = len(self.layers), self.heads
        if layers * heads * t > MOST_VALUES:
            raise CapacityError(f"the rows of token {t} take {layers * heads * t >> 18} MiB")
        if self.form == "full":
            before = pairs(held.first, t) * layers * heads
            flat = np.asarray(held.weights[before : before + t * layers * heads])
            return flat.reshape(layers, heads, t).astype(np.float32)
        assert held.keys is not None and held.sink is not None
        i = t - held.first
        keys = held.keys[i]
        dense = np.zeros((layers, heads, t), dtype=np.float32)
        li, hi, ki = np.nonzero(keys != NO_KEY)
        if ki.size and int(keys[li, hi, ki].max()) >= t:
            if isinstance(held.keys, Stored):
                raise StoreDamaged(held.keys.source.name, f"token {t} looks at a later one")
            raise InputError("attention", f"token {t} cannot have looked at a later one")
        dense[li, hi, keys[li, hi, ki]] = held.weights[i][li, hi, ki]
        dense[:, :, 0] = held.sink[i]
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
        held = self._holder(t)
        if held.rest is None:
            return 0.0
        return float(held.rest[t - held.first][self._layer(layer), head])

    def only(self, t: int) -> Attention:
        """The rows of token ``t`` alone, in memory. Raises InputError when it has none."""
        return self._holder(t)._between(t, t + 1).loaded()

    def slice(self, end: int) -> Attention | None:
        """The rows of tokens below ``end`` only; None when nothing is left."""
        return self.between(self.first, end)

    def between(self, start: int, end: int) -> Attention | None:
        """The rows of tokens ``start..end`` only; None when nothing is left. Nothing is copied."""
        found = [
            b._between(max(start, b.first), min(end, b.first + b.own_count))
            for b in self.blocks()
            if max(start, b.first) < min(end, b.first + b.own_count)
        ]
        return replace(found[0], more=tuple(found[1:])) if found else None

    def loaded(self) -> Attention:
        """The same with the arrays of this record in memory."""
        held: dict[str, Any] = {n: np.asarray(a) for n, a in self.arrays().items()}
        return replace(self, **held)

    def _between(self, start: int, end: int) -> Attention:
        if self.form == "full":
            per = len(self.layers) * self.heads
            lo, hi = pairs(self.first, start) * per, pairs(self.first, end) * per
        else:
            lo, hi = start - self.first, end - self.first
        cut: dict[str, Any] = {n: a[lo:hi] for n, a in self.arrays().items()}
        return replace(self, first=start, more=(), **cut)


def pairs(start: int, end: int) -> int:
    """The sum of t for t in start..end-1."""
    return end * (end - 1) // 2 - start * (start - 1) // 2


def follows(a: Attention, b: Attention) -> bool:
    """Whether ``b`` goes on where ``a`` ends, in the same form."""
    return a.first + a.count == b.first and a.form == b.form and a.layers == b.layers


def last_run(parts: Sequence[Attention]) -> list[Attention]:
    """The longest tail of records that follow one another."""
    breaks = [i for i, (a, b) in enumerate(itertools.pairwise(parts), 1) if not follows(a, b)]
    return list(parts[breaks[-1] if breaks else 0 :])


def join(parts: Sequence[Attention]) -> Attention | None:
    """Consecutive records as one. Large ones, and those in a file, are shared, small ones copied.

    Raises InputError on a gap or on differing forms.
    """
    if not parts:
        return None
    for a, b in itertools.pairwise(parts):
        if not follows(a, b):
            raise InputError("attention", f"records do not join at token {b.first}")
    made: list[Attention] = []
    small: list[Attention] = []
    for block in (b for p in parts for b in p.blocks()):
        arrays = block.arrays().values()
        in_memory = any(isinstance(a, np.ndarray) for a in arrays)
        if in_memory and sum(a.nbytes for a in arrays) < SHARED:
            small.append(block)
            continue
        made += [*_copied(small), block]
        small = []
    made += _copied(small)
    return replace(made[0], more=tuple(made[1:]))


def _copied(blocks: Sequence[Attention]) -> list[Attention]:
    if len(blocks) < 2:
        return list(blocks)
    whole: dict[str, Any] = {
        n: np.concatenate([np.asarray(getattr(b, n)) for b in blocks]) for n in blocks[0].arrays()
    }
    return [replace(blocks[0], **whole)]
