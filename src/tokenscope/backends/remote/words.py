"""What the ids of a server's model stand for: the whole table, or what has been seen of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from threading import Lock

from tokenscope.errors import InputError
from tokenscope.trace.tokens import Tokens

OWN = 1 << 30  # numbers of our own are at least this large


class Table:
    """The bytes of every id 0..n-1, as the server tells them; special ids have none but a label."""

    def __init__(self, pieces: Sequence[bytes], labels: Mapping[int, str]) -> None:
        self._pieces = pieces
        self.labels = dict(labels)
        total = hashlib.sha256(repr(sorted(self.labels.items())).encode())
        for piece in pieces:
            total.update(len(piece).to_bytes(4, "little") + piece)
        self.digest = total.hexdigest()

    def __len__(self) -> int:
        return len(self._pieces)

    def piece(self, token_id: int) -> bytes:
        """Raises InputError for an id that does not exist."""
        if not 0 <= token_id < len(self._pieces):
            raise InputError("token id", f"{token_id} is not in 0..{len(self._pieces) - 1}")
        return self._pieces[token_id]

    def label(self, token_id: int) -> str | None:
        """The literal of a special id, None for an ordinary one."""
        return self.labels.get(token_id)

    def tokens(self, ids: Sequence[int]) -> Tokens:
        """Ids with their bytes."""
        labels = {n: self.labels[i] for n, i in enumerate(ids) if i in self.labels}
        return Tokens.of(ids, [self.piece(i) for i in ids], labels)


class Seen:
    """Pieces in the order of their coming, for a server that tells texts and no ids.

    A piece gets a number of our own: from its bytes, so that it is the same in every run; where
    two pieces would get one number, the later takes the next that is free.
    """

    digest = "own numbers"

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self._lock = Lock()

    def number(self, piece: bytes) -> int:
        """The number of a piece."""
        with self._lock:
            held = self._numbers.get(piece)
            if held is not None:
                return held
            number = int.from_bytes(hashlib.sha256(piece).digest()[:4], "little") % OWN + OWN
            while number in self._pieces:
                number = OWN + (number + 1 - OWN) % OWN
            self._numbers[piece], self._pieces[number] = number, piece
            return number

    def piece(self, token_id: int) -> bytes:
        """Raises InputError for a number that nothing here has got."""
        with self._lock:
            held = self._pieces.get(token_id)
        if held is None:
            raise InputError("token id", f"{token_id} stands for nothing that was seen")
        return held

    def label(self, token_id: int) -> str | None:
        """None: which pieces are special is not told."""
        return None
