"""A server that tells the texts of tokens and no ids: the numbers are ours, branches go by text.

How it cuts a prompt is told only where it echoes prompts; elsewhere a prompt stands as one token.
What a token adds to the text is what the stream adds, so that the bytes always make the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from threading import Lock

from tokenscope.backends.protocol import Abilities, Asked, ModelInfo, StreamEnd, Told, Top
from tokenscope.backends.remote import shapes
from tokenscope.backends.remote.connection import Connection
from tokenscope.backends.remote.dialects import Dialect, Heard
from tokenscope.backends.remote.shapes import Candidate, Entry
from tokenscope.backends.remote.words import Seen
from tokenscope.errors import AbilityError, InputError, RemoteError
from tokenscope.trace.tokens import Tokens

WIDE = 20
Cancelled = Callable[[], bool]


class TextServer:
    """A model behind such a server."""

    def __init__(
        self, connection: Connection, info: ModelInfo, abilities: Abilities, dialect: Dialect
    ) -> None:
        self.info = info
        self.abilities = abilities
        self.stop_ids: frozenset[int] = frozenset()
        self._connection = connection
        self._dialect = dialect
        self._seen = Seen()
        self._last: tuple[str, int, list[Entry]] | None = None  # the last echo
        self._lock = Lock()

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()

    # --- text --------------------------------------------------------------------------------
    def encode(self, text: str, bos: bool = True) -> Tokens:
        """The server's tokens where it echoes, else all of the text as one."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InputError("text", f"lone surrogate at character {error.start}") from None
        if not data:
            return Tokens.of([], [])
        rows = self._echoed(text, WIDE, _never) if bos else None
        if rows is None:
            return Tokens.of([self._seen.number(data)], [data])
        return Tokens.of([self._number(r.came) for r in rows], [r.came.text.encode() for r in rows])

    def piece(self, token_id: int) -> bytes:
        """The bytes of a number that was given out. Raises InputError."""
        return self._seen.piece(token_id)

    def learn(self, pieces: Iterable[bytes]) -> None:
        """Pieces that were seen at an earlier time: they get the numbers that they had then."""
        for piece in pieces:
            self._seen.number(piece)

    def label(self, token_id: int) -> str | None:
        """None: special tokens are not told apart."""
        return self._seen.label(token_id)

    # --- decoding ----------------------------------------------------------------------------
    def stream(self, asked: Asked, cancelled: Cancelled) -> Generator[Told, None, StreamEnd]:
        """The server's own decoding."""
        if asked.bias:
            raise AbilityError("this server tells no ids, so none can be banned or biased in it")
        k = min(max(asked.top, WIDE), self._dialect.most)
        wanted = Asked(asked.text, asked.max_new_tokens, asked.sampler, (), k)
        count = 0
        for heard in self._dialect.decode(wanted, cancelled):
            for told in self._told(heard, k):
                count += 1
                if count > asked.max_new_tokens:
                    raise shapes.strange("its count of tokens is wrong")
                yield told
            if heard.end is not None:
                return heard.end
        if cancelled():
            return "cancelled"
        raise RemoteError("its stream ended before it said so; what came is kept")

    def _told(self, heard: Heard, k: int) -> Iterator[Told]:
        data = heard.text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
        if not heard.rows:
            if data:  # text of tokens of which nothing is told
                yield Told(self._seen.number(data), data, shapes.top_of([_unknown(data)], hash, k))
            return
        pieces = [_bytes(r.came) for r in heard.rows]
        if b"".join(pieces) != data:  # a character is whole only with its last token
            pieces = [b""] * (len(pieces) - 1) + [data]
        for row, piece in zip(heard.rows, pieces, strict=True):
            yield Told(self._number(row.came), piece, shapes.top_of([row], self._number, k))

    # --- scoring -----------------------------------------------------------------------------
    def score(
        self, ids: Sequence[int], start: int, top: int, cancelled: Cancelled
    ) -> Iterator[Top]:
        """One request, where the server cuts the text as the ids say; else nothing."""
        try:
            text = b"".join(self._seen.piece(int(i)) for i in ids).decode("utf-8", "replace")
        except InputError:
            return  # numbers of an earlier time, whose text is not known any more
        k = min(max(top, WIDE), self._dialect.most)
        rows = self._echoed(text, k, cancelled)
        if rows is not None and [self._number(r.came) for r in rows] == [int(i) for i in ids]:
            yield shapes.top_of(rows[start:], self._number, k)

    def scoring_cost(self, count: int) -> str:
        """One request."""
        return ""

    def _echoed(self, text: str, k: int, cancelled: Cancelled) -> list[Entry] | None:
        """The echo of a text; the last one is kept, since a text is first cut, then scored."""
        with self._lock:
            held = self._last
        if held is not None and held[0] == text and held[1] >= k:
            return held[2]
        rows = self._dialect.echo(text, k, cancelled)
        if rows and not cancelled():
            with self._lock:
                self._last = (text, k, rows)
        return rows or None

    def _number(self, c: Candidate) -> int:
        return self._seen.number(_bytes(c))


def _bytes(c: Candidate) -> bytes:
    return c.bytes if c.bytes is not None else c.text.encode("utf-8", "replace")


def _unknown(data: bytes) -> Entry:
    return Entry(Candidate(-1, "", data, math.nan), ())


def _never() -> bool:
    return False
