"""A GGUF file as a backend: full distributions, attention of every layer and head, cheap forks.

A state is the ids that it has seen. Where llama.cpp still holds their memory the state also has a
*sequence* there; sequences are a cache: the one used longest ago is given up when cells or numbers
run out, and read again when its state is fed next. So any number of states may be kept.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tokenscope.backends.gguf.client import Full as CellsFull
from tokenscope.backends.gguf.client import Worker, rows_of
from tokenscope.backends.protocol import Abilities, Extension, Feed, Full, Hidden, ModelInfo
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.trace.tokens import Tokens

SEQUENCES = 64
BATCH = 512


@dataclass(slots=True, eq=False)
class Cells:
    """Some cells of the worker's memory, held by one state or shared by several."""

    tokens: int = 0
    shared: bool = False
    key: int = field(default_factory=count().__next__)


@dataclass(slots=True, eq=False, weakref_slot=True)
class GgufState:
    """Ids seen, and the sequence that holds their memory (None: given up, to be read again)."""

    ids: list[int]
    sequence: int | None = None
    bytes_per_token: int = 0
    parts: list[tuple[Cells, int]] = field(default_factory=list)  # cells, and how many are mine

    @property
    def nbytes(self) -> int:
        """Bytes of its cells, shared ones too."""
        return sum(self.blocks.values())

    @property
    def blocks(self) -> Mapping[int, int]:
        """Bytes of its cells; those that several states share have the same key in each."""
        return {cells.key: cells.tokens * self.bytes_per_token for cells, _ in self.parts}

    def grow(self, ids: Sequence[int]) -> None:
        """Take in ids that were fed."""
        self.ids.extend(ids)
        if not self.parts or self.parts[-1][0].shared:
            self.parts.append((Cells(), 0))
        cells, mine = self.parts[-1]
        cells.tokens += len(ids)
        self.parts[-1] = (cells, mine + len(ids))

    def shrink(self, length: int) -> None:
        """Forget the ids from ``length`` on."""
        del self.ids[length:]
        self.parts = self._first(length)
        if self.parts and not self.parts[-1][0].shared:
            self.parts[-1][0].tokens = self.parts[-1][1]

    def sharing(self, length: int) -> GgufState:
        """A state over the first ``length`` ids that shares their cells; it has no sequence."""
        parts = self._first(length)
        for cells, _ in parts:
            cells.shared = True
        return GgufState(self.ids[:length], None, self.bytes_per_token, parts)

    def _first(self, length: int) -> list[tuple[Cells, int]]:
        out: list[tuple[Cells, int]] = []
        for cells, mine in self.parts:
            if length <= 0:
                break
            out.append((cells, min(mine, length)))
            length -= mine
        return out


class GgufBackend:
    """One GGUF file in a worker process. Build it with :func:`tokenscope.backends.gguf.load`."""

    def __init__(
        self, worker: Worker, info: ModelInfo, abilities: Abilities, facts: Mapping[str, Any],
        pieces: Sequence[bytes],
    ) -> None:  # fmt: skip
        self.info = info
        self.abilities = abilities
        self.stop_ids = frozenset(facts["stops"])
        self.worker = worker
        self._pieces = pieces
        self._labels = {int(i): s for i, s in facts["specials"].items()}
        self._bos = facts["bos"] if facts["adds_bos"] and facts["bos"] >= 0 else None
        self._infill: list[int] = facts["infill"]
        self._holders: dict[int, weakref.ref[GgufState]] = {}  # sequence -> state; oldest first
        self._free = list(range(SEQUENCES))

    # --- text --------------------------------------------------------------------------------
    def encode(self, text: str, bos: bool = True) -> Tokens:
        """Text to tokens, with the file's start token where the file asks for one."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InputError("text", f"lone surrogate at character {error.start}") from None
        if b"\0" in data:
            raise InputError("text", f"llama.cpp ends a text at a NUL, byte {data.index(0)}")
        context = self.info.context or 0
        if context and len(data) > context * 64:
            raise CapacityError(f"text of {len(data)} bytes cannot fit {context} tokens", context)
        ids = self.worker.ask("tokenize", data, specials=False)[0]["ids"] if data else []
        tokens = self._tokens(ids, data)
        if bos and self._bos is not None:
            head = Tokens.of([self._bos], [b""], {0: self._labels.get(self._bos, "<s>")})
            tokens = head.joined(tokens)
        return tokens

    def _tokens(self, ids: Sequence[int], data: bytes) -> Tokens:
        pieces = [self.piece(i) for i in ids]
        if b"".join(pieces) == b" " + data and pieces:
            pieces[0] = pieces[0][1:]  # such vocabularies put a space before every text
        if b"".join(pieces) != data:
            raise InputError("text", "this model's tokenizer does not keep its bytes")
        return Tokens.of(list(ids), pieces)

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        """Prefix and suffix in the order prefix mark, suffix mark, middle mark."""
        if min(self._infill) < 0:
            raise AbilityError("this model's tokenizer has no infill tokens")
        one = lambda i: Tokens.of([i], [b""], {0: self._labels.get(i, "")})
        before, after, middle = (one(i) for i in self._infill)
        head = before.joined(self.encode(prefix, bos=False)).joined(after)
        return head.joined(self.encode(suffix, bos=False)).joined(middle)

    def infill_stops(self) -> frozenset[int]:
        """Nothing beyond ``stop_ids``: llama.cpp counts a family's infill ends among those."""
        return frozenset()

    def piece(self, token_id: int) -> bytes:
        """The bytes of one id (b"" for a special one). Raises InputError for an unknown id."""
        if not 0 <= token_id < len(self._pieces):
            raise InputError("token id", f"{token_id} is not in 0..{len(self._pieces) - 1}")
        return b"" if token_id in self._labels else self._pieces[token_id]

    def label(self, token_id: int) -> str | None:
        """The literal of a special id, None for an ordinary one."""
        return self._labels.get(token_id)

    # --- states ------------------------------------------------------------------------------
    def start(self) -> GgufState:
        """An empty state."""
        return GgufState([], None, self.info.state_bytes_per_token)

    def extend(self, feed: Feed) -> Extension:
        """``extend_many`` of one."""
        return self.extend_many([feed])[0]

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        """Feed several states in one batch. Raises as the contract says; checks come first."""
        self._check(feeds)
        busy = {id(f.state) for f in feeds}
        for feed in feeds:
            self._seated(feed.state, busy)
        asked = [
            {
                "seq": f.state.sequence, "start": len(f.state.ids), "ids": [int(i) for i in f.ids],
                "scores": len(f.ids) if f.scores is None else min(f.scores, len(f.ids)),
                "rows": min(f.rows, len(f.ids)),
                "hidden": [c.key for c in f.changes],
            }
            for f in feeds
        ]  # fmt: skip
        head, arrays, _ = self._with_room(busy, asked)
        out = []
        for feed, (scores, rows) in zip(feeds, rows_of(head, arrays), strict=True):
            feed.state.grow([int(i) for i in feed.ids])
            out.append(Extension(None if scores is None else Full(scores), list(rows)))
        return out

    def _check(self, feeds: Sequence[Feed]) -> None:
        if len({id(f.state) for f in feeds}) != len(feeds):
            raise InputError("feeds", "a state is fed twice")
        for feed in feeds:
            if not len(feed.ids):
                raise InputError("ids", "nothing to feed")
            if feed.changes:
                self._check_hidden(feed)
            for i in feed.ids:
                if not 0 <= i < len(self._pieces):
                    raise InputError("token id", f"{i} is not in 0..{len(self._pieces) - 1}")
            past, context = len(feed.state.ids), self.info.context or 0
            if past + len(feed.ids) > context:
                raise CapacityError(
                    f"{past + len(feed.ids)} tokens exceed the context of {context}",
                    fits=context - past,
                )

    def _check_hidden(self, feed: Feed) -> None:
        hidden = [c.key for c in feed.changes if isinstance(c, Hidden)]
        if len(hidden) < len(feed.changes):
            raise AbilityError("a model in llama.cpp cannot be changed inside")
        if not self.abilities.attention:
            raise AbilityError("the attention of this model is out of reach")
        past = len(feed.state.ids)
        if len(feed.ids) != 1 or not all(0 <= key <= past for key in hidden):
            raise InputError("changes", f"one id reads the keys 0..{past}")
        if len(set(hidden)) > past:
            raise InputError("changes", "a query must read something")

    def back(self, state: GgufState, count: int) -> None:
        """The state without its last ``count`` ids, in place."""
        if not 0 <= count <= len(state.ids):
            raise InputError("count", f"must lie in 0..{len(state.ids)}")
        if self.abilities.fork != "crop":
            raise AbilityError("this model's memory cannot go back; only a kept state can fork")
        keep = len(state.ids) - count
        if count and state.sequence is not None:
            self.worker.ask("cut", sequence=state.sequence, length=keep)
        state.shrink(keep)

    def fork(self, state: GgufState, length: int) -> GgufState:
        """A state of its own over the first ``length`` ids; shares the cells of ``state``."""
        if not 0 <= length <= len(state.ids):
            raise InputError("length", f"must lie in 0..{len(state.ids)}")
        if self.abilities.fork == "copy" and length not in (0, len(state.ids)):
            raise AbilityError("this model's memory cannot go back; only a kept state can fork")
        other = state.sharing(length)
        if length and state.sequence is not None:
            number = self._number({id(state)})
            self.worker.ask("copy", source=state.sequence, target=number, length=length)
            self._seat(other, number)
        return other

    @property
    def alive(self) -> bool:
        """Whether its process still runs; after a crash the file has to be loaded again."""
        return not self.worker.closed

    def close(self) -> None:
        """End the worker."""
        self.worker.close()

    # --- sequences ---------------------------------------------------------------------------
    def _seated(self, state: GgufState, busy: set[int]) -> None:
        """Give the state a sequence whose memory holds its ids; read them again if need be."""
        if state.sequence is not None:
            self._holders[state.sequence] = self._holders.pop(state.sequence)  # used last
            return
        self._seat(state, self._number(busy))
        for start in range(0, len(state.ids), BATCH):
            again = {
                "seq": state.sequence, "start": start, "ids": state.ids[start : start + BATCH],
                "scores": 0, "rows": 0,
            }  # fmt: skip
            self._with_room(busy, [again])

    def _seat(self, state: GgufState, number: int) -> None:
        state.sequence = number
        self._holders[number] = weakref.ref(state)

    def _number(self, busy: set[int]) -> int:
        self._sweep()
        if not self._free and not self._forget(busy):
            raise CapacityError(f"{SEQUENCES} states are fed at once; no more can be", SEQUENCES)
        return self._free.pop()

    def _sweep(self) -> None:
        """Give back the sequences of states that are gone."""
        gone = [n for n, held in self._holders.items() if held() is None]
        if gone:
            self._release(gone)

    def _forget(self, busy: set[int]) -> bool:
        """Give up the sequence that was used longest ago. False when all are in use."""
        for number, held in self._holders.items():
            state = held()
            if state is None or id(state) not in busy:
                if state is not None:
                    state.sequence = None
                self._release([number])
                return True
        return False

    def _release(self, numbers: list[int]) -> None:
        self.worker.ask("drop", sequences=numbers)
        for number in numbers:
            self._holders.pop(number, None)
            self._free.append(number)

    def _with_room(
        self, busy: set[int], asked: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]], bytes]:
        """Feed; when the cells run out, forget and feed again.

        A batch that failed half-way is taken back first: its states are cut to what they were.
        """
        while True:
            try:
                return self.worker.ask("extend", feeds=asked)
            except CellsFull as error:
                self._sweep()
                for feed in asked:
                    self.worker.ask("cut", sequence=feed["seq"], length=feed["start"])
                if not self._forget(busy):
                    raise CapacityError(
                        "the memory of the model is full; run fewer sequences at once"
                    ) from error


def threads() -> int:
    """How many threads llama.cpp takes: those that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_gguf(path: Path) -> bool:
    """Whether the file begins as a GGUF file does."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False
