"""What an edit has to know of the run that it goes into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from tokenscope.backends.protocol import Backend, ModelInfo, Vocabulary
from tokenscope.decode.pieces import Pieces
from tokenscope.decode.vectors import SteeringVector, Vectors
from tokenscope.trace.tokens import Tokens

S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class Scene:
    """A run that is about to begin: it decodes the tokens ``begin..end-1``.

    ``given``: all tokens before ``begin``. ``text``: the bytes that what comes is the continuation
    of (an infill: what stands before the gap; a chat: nothing), to which ``given`` adds what it
    holds from ``written`` on. ``table``: the vocabulary's bytes, made once per model. ``stop``:
    the run may also end at one of its stop strings. ``turn``: to be held while the model runs
    outside a decoding. ``recalled``: what parts gave in such runs. ``vectors``: steering vectors
    by digest.
    """

    backend: Backend
    info: ModelInfo
    vocabulary: Vocabulary
    table: Callable[[], Pieces]
    given: Tokens
    end: int
    stop_ids: frozenset[int]
    text: bytes = b""
    written: int = 0
    language: str = ""
    stop: bool = False
    turn: Any = None
    recalled: dict[Any, Any] = field(default_factory=dict)
    vectors: Mapping[str, SteeringVector] = field(default_factory=Vectors)

    @property
    def begin(self) -> int:
        """Index of the first token that is decoded."""
        return len(self.given)

    @cached_property
    def pieces(self) -> Pieces:
        """The vocabulary's bytes. Raises AbilityError where they are not told."""
        return self.table()

    def bytes_from(self, at: int) -> bytes:
        """The bytes of the given tokens from ``at`` on."""
        return self.given.slice(min(at, self.begin), self.begin).data

    def head(self, scope: str, at: int) -> bytes:
        """What stands before the first decoded token: all ``text``, or what is ``generated`` since
        token ``at``."""
        if scope == "generated":
            return self.bytes_from(at)
        return self.text + self.bytes_from(self.written)


class Follow(Generic[S]):
    """Something that depends on the ids from ``begin`` on: it goes on from where it stood.

    ``fresh()`` gives it as it is before the first; ``step`` takes one id more (it may change what
    it is given). A run that was rewound or is another one is read from the start again.
    """

    def __init__(self, begin: int, fresh: Callable[[], S], step: Callable[[S, int], S]) -> None:
        self._begin = begin
        self._fresh = fresh
        self._step = step
        self._ids: list[int] = []
        self._now = fresh()

    def at(self, seen: Sequence[int]) -> S:
        """As it is after ``seen``, all ids of the run so far."""
        ids = list(seen[self._begin :])
        if ids[: len(self._ids)] != self._ids:
            self._ids, self._now = [], self._fresh()
        for i in ids[len(self._ids) :]:
            self._now = self._step(self._now, i)
        self._ids = ids
        return self._now
