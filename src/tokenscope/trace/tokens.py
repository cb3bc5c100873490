"""Token ids and their bytes, as a struct of arrays.

The invariant of the whole house: the bytes of the tokens, concatenated, are the text, byte for
byte. A special token (``<s>``, ``<|endoftext|>``, a chat or infill mark) has *no* bytes in the
text; what to show in its place is its ``label``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Token:
    """One token: ``data[start:end]`` are its bytes; ``label`` is set on special tokens only."""

    index: int
    id: int
    bytes: bytes
    start: int
    end: int
    label: str | None

    @property
    def text(self) -> str:
        """The bytes as text for display; bytes that are no whole character show as U+FFFD."""
        return self.label if self.label is not None else self.bytes.decode("utf-8", "replace")

    @property
    def special(self) -> bool:
        """Whether this is a mark of the tokenizer rather than a piece of the text."""
        return self.label is not None


@dataclass(frozen=True, eq=False)
class Tokens:
    """T tokens. ``ids`` int32 (T,), ``data`` all bytes, ``offsets`` int64 (T+1,) into ``data``.

    ``labels`` maps the index of each special token to its literal; their byte range is empty.
    """

    ids: I32
    data: bytes
    offsets: I64
    labels: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = np.ascontiguousarray(self.ids, dtype=np.int32)
        offsets = np.ascontiguousarray(self.offsets, dtype=np.int64)
        if offsets.shape != (len(ids) + 1,):
            raise InputError("offsets", f"expected {len(ids) + 1} entries, got {offsets.shape}")
        if int(offsets[0]) != 0 or int(offsets[-1]) != len(self.data):
            raise InputError("offsets", "must run from 0 to the number of bytes")
        if len(ids) and bool((np.diff(offsets) < 0).any()):
            raise InputError("offsets", "must not decrease")
        ids.flags.writeable = False
        offsets.flags.writeable = False
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "offsets", offsets)

    @classmethod
    def of(
        cls, ids: Sequence[int], pieces: Sequence[bytes], labels: Mapping[int, str] | None = None
    ) -> Tokens:
        """Build from ids and the bytes of each token (empty for special ones)."""
        sizes = np.fromiter((len(p) for p in pieces), dtype=np.int64, count=len(pieces))
        offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        return cls(np.asarray(ids, dtype=np.int32), b"".join(pieces), offsets, dict(labels or {}))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Token:
        n = len(self)
        i = index + n if index < 0 else index
        if not 0 <= i < n:
            raise IndexError(f"token {index} of {n}")
        start, end = int(self.offsets[i]), int(self.offsets[i + 1])
        return Token(i, int(self.ids[i]), self.data[start:end], start, end, self.labels.get(i))

    def __iter__(self) -> Iterator[Token]:
        return (self[i] for i in range(len(self)))

    @property
    def text(self) -> str:
        """The bytes as text. A character cut at the end (or invalid bytes) shows as U+FFFD."""
        return self.data.decode("utf-8", "replace")

    @property
    def special(self) -> Bool:
        """bool (T,), True at special tokens."""
        mask = np.zeros(len(self), dtype=np.bool_)
        if self.labels:
            mask[list(self.labels)] = True
        return mask

    def pieces(self) -> list[bytes]:
        """The bytes of every token, T entries."""
        o = self.offsets.tolist()
        return [self.data[o[i] : o[i + 1]] for i in range(len(self))]

    def slice(self, start: int, end: int) -> Tokens:
        """Tokens ``start..end`` as a value of their own (offsets start at 0 again)."""
        start, end, _ = slice(start, end).indices(len(self))
        end = max(start, end)
        lo, hi = int(self.offsets[start]), int(self.offsets[end])
        labels = {i - start: s for i, s in self.labels.items() if start <= i < end}
        return Tokens(
            self.ids[start:end], self.data[lo:hi], self.offsets[start : end + 1] - lo, labels
        )

    def joined(self, other: Tokens) -> Tokens:
        """These tokens followed by ``other``."""
        shifted = {i + len(self): s for i, s in other.labels.items()}
        return Tokens(
            np.concatenate([self.ids, other.ids]),
            self.data + other.data,
            np.concatenate([self.offsets, other.offsets[1:] + len(self.data)]),
            {**self.labels, **shifted},
        )

    def at_byte(self, byte: int) -> int:
        """Index of the token that holds byte offset ``byte`` (special tokens never do)."""
        if not 0 <= byte < len(self.data):
            raise InputError("byte", f"must lie in 0..{len(self.data) - 1}")
        return int(np.searchsorted(self.offsets, byte, side="right")) - 1
