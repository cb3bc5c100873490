"""The bytes of a whole vocabulary, so that an automaton can walk all tokens at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.protocol import ModelInfo, Vocabulary
from tokenscope.errors import AbilityError

Table = NDArray[np.int32]  # (states, 256): the state after a byte


class Pieces:
    """The bytes of the ids ``0..V-1``; b"" for those that write none.

    Raises AbilityError where the backend does not tell how many ids there are.
    """

    def __init__(self, vocabulary: Vocabulary, info: ModelInfo) -> None:
        if not info.vocab:
            raise AbilityError("this backend does not tell its vocabulary: text cannot be ruled")
        self.pieces: Sequence[bytes] = [vocabulary.piece(i) for i in range(info.vocab)]

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def silent(self) -> NDArray[np.bool_]:
        """(V,): the ids that write no byte."""
        return np.array([not p for p in self.pieces])

    @cached_property
    def _columns(self) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]]]:
        """Ids from the longest on, and of those that are long enough the j-th byte, for each j."""
        sizes = np.array([len(p) for p in self.pieces])
        order = np.argsort(-sizes, kind="stable")
        ranked = [self.pieces[i] for i in order]
        columns, j = [], 0
        while ranked and len(ranked[0]) > j:
            held = int((sizes > j).sum())
            columns.append(np.frombuffer(bytes(p[j] for p in ranked[:held]), dtype=np.uint8))
            j += 1
        return order, columns

    def walk(
        self, table: Table, state: int, hits: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Each token's bytes from ``state`` on: the state after it, and how many of the states on
        the way are ``hits`` (states,); both int32 (V,)."""
        order, columns = self._columns
        at = np.full(len(order), state, dtype=np.int32)
        count = np.zeros(len(order), dtype=np.int32)
        for column in columns:
            n = len(column)
            at[:n] = table[at[:n], column]
            if hits is not None:
                count[:n] += hits[at[:n]]
        after, found = np.empty_like(at), np.empty_like(count)
        after[order], found[order] = at, count
        return after, found
