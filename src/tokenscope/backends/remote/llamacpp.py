"""A llama.cpp server: its own routes tell ids, bytes and raw distributions, and read ids.

``/completion`` with one token to predict and ``n_probs`` gives the distribution after any ids; a
bias decides which token "comes", and log-probabilities are those before it. So a prefix can be fed
and a text scored exactly, one request a token; decoding streams. What the server does not send,
since a character was not whole yet, is asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tokenscope.backends.hf.chat import check
from tokenscope.backends.hf.infill import InfillMarks, find_stops
from tokenscope.backends.protocol import (
    Abilities,
    Asked,
    Extension,
    Feed,
    ModelInfo,
    StreamEnd,
    Told,
    Top,
)
from tokenscope.backends.remote import shapes
from tokenscope.backends.remote.connection import Connection
from tokenscope.backends.remote.stream import events
from tokenscope.backends.remote.words import Table
from tokenscope.errors import AbilityError, CapacityError, InputError, RemoteError
from tokenscope.trace.tokens import Tokens

WIDE = 20  # candidates that are asked for at least: they cost little and narrow the bounds
CERTAIN = 1e9  # a bias that decides
ORDER = ("penalties", "temperature", "top_k", "top_p", "min_p")  # as in decode.sampling
Cancelled = Callable[[], bool]


@dataclass(slots=True, eq=False)
class ServedState:
    """The ids that count as read; the memory of them is the server's own business."""

    ids: list[int] = field(default_factory=list)
    nbytes: int = 0

    @property
    def blocks(self) -> Mapping[int, int]:
        """Nothing is held here."""
        return {}


class LlamaServer:
    """A model behind llama.cpp's server. Build it with :func:`tokenscope.backends.remote.load`."""

    def __init__(
        self, connection: Connection, info: ModelInfo, abilities: Abilities, table: Table,
        stop_ids: frozenset[int], marks: InfillMarks | None, harmless: int, bos: int | None,
    ) -> None:  # fmt: skip
        self.info = info
        self.abilities = abilities
        self.stop_ids = stop_ids
        self._connection = connection
        self._table = table
        self._marks = marks
        self._harmless = harmless
        self._bos = bos
        self._ms = 0.0  # what one request of one token has taken lately

    def try_out(self) -> None:
        """One request of the kind that scoring makes. Raises RemoteError where it does not work."""
        for token in (self._harmless, self._harmless + 1):
            row = self._after([self._harmless], token, 1, _never)
            if row is not None and row.came.id != token:
                raise shapes.strange("it does not do what logit_bias asks")

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()

    # --- text --------------------------------------------------------------------------------
    def encode(self, text: str, bos: bool = True) -> Tokens:
        """The server's own tokens of a text; marks in it stay text."""
        data = encoded(text)
        ids = self._tokenize(text, special=False, bos=bos) if data or bos else []
        head = ids[:1] if bos and ids[:1] == [self._bos] else []
        return self._table.tokens(head).joined(self._kept(ids[len(head) :], data))

    def _kept(self, ids: Sequence[int], data: bytes) -> Tokens:
        pieces = [self.piece(i) for i in ids]
        if pieces and b"".join(pieces) == b" " + data:
            pieces[0] = pieces[0][1:]  # such vocabularies put a space before every text
        if b"".join(pieces) != data:
            raise InputError("text", "the server's tokenizer does not keep its bytes")
        return Tokens.of(list(ids), pieces)

    def _tokenize(self, text: str, special: bool, bos: bool) -> list[int]:
        body = {"content": text, "add_special": bos, "parse_special": special}
        answer = self._connection.post("/tokenize", body)
        found: list[int] = shapes.field(answer, "tokens", list, "/tokenize")
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in found):
            raise shapes.strange("a token is no number")
        return found

    def piece(self, token_id: int) -> bytes:
        """The bytes of one id (b"" for a special one). Raises InputError for an unknown id."""
        return self._table.piece(token_id)

    def label(self, token_id: int) -> str | None:
        """The literal of a special id, None for an ordinary one."""
        return self._table.label(token_id)

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        """Prefix and suffix in the order prefix mark, suffix mark, middle mark."""
        if self._marks is None:
            raise AbilityError("this model's tokenizer has no infill tokens")
        before, after, middle = (
            self._table.tokens([i])
            for i in (self._marks.prefix, self._marks.suffix, self._marks.middle)
        )
        head = before.joined(self.encode(prefix, bos=False)).joined(after)
        return head.joined(self.encode(suffix, bos=False)).joined(middle)

    def infill_stops(self) -> frozenset[int]:
        """Ids at which an infill ends, besides ``stop_ids``."""
        return find_stops({s: i for i, s in self._table.labels.items()}.get)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> Tokens:
        """Messages by the server's own template. Raises InputError."""
        check(messages, self._special_in)
        body = {"messages": [dict(m) for m in messages]}
        text = shapes.field(
            self._connection.post("/apply-template", body), "prompt", str, "/apply-template"
        )
        return self._table.tokens(self._tokenize(text, special=True, bos=True))

    def _special_in(self, text: str) -> str | None:
        ids = self._tokenize(text, special=True, bos=False)
        return next((s for s in map(self.label, ids) if s is not None), None)

    # --- feeding -----------------------------------------------------------------------------
    def start(self) -> ServedState:
        """An empty state."""
        return ServedState()

    def extend(self, feed: Feed) -> Extension:
        """``extend_many`` of one."""
        return self.extend_many([feed])[0]

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        """One request for every distribution that is wanted; they are ``top`` ones."""
        if len({id(f.state) for f in feeds}) != len(feeds):
            raise InputError("feeds", "a state is fed twice")
        for feed in feeds:
            self._check(feed)
        out = []
        for feed in feeds:
            ids = [*feed.state.ids, *(int(i) for i in feed.ids)]
            wanted = len(feed.ids) if feed.scores is None else min(feed.scores, len(feed.ids))
            ends = range(len(ids) - wanted + 1, len(ids) + 1)
            rows = [self._after(ids[:end], self._harmless, WIDE, _never) for end in ends]
            out.append(Extension(self._top(rows, WIDE, came=False) if rows else None, []))
        for feed in feeds:  # only now: what failed half-way changed nothing
            feed.state.ids.extend(int(i) for i in feed.ids)
        return out

    def _check(self, feed: Feed) -> None:
        if feed.changes:
            raise AbilityError("a model behind a server cannot be changed inside")
        if not len(feed.ids):
            raise InputError("ids", "nothing to feed")
        for i in feed.ids:
            self.piece(int(i))
        past, context = len(feed.state.ids), self.info.context
        if context is not None and past + len(feed.ids) > context:
            raise CapacityError(
                f"{past + len(feed.ids)} tokens exceed the context of {context}",
                fits=context - past,
            )

    def back(self, state: ServedState, count: int) -> None:
        """The state without its last ``count`` ids."""
        if not 0 <= count <= len(state.ids):
            raise InputError("count", f"must lie in 0..{len(state.ids)}")
        del state.ids[len(state.ids) - count :]

    def fork(self, state: ServedState, length: int) -> ServedState:
        """The first ``length`` ids; the server finds its own memory of them again."""
        if not 0 <= length <= len(state.ids):
            raise InputError("length", f"must lie in 0..{len(state.ids)}")
        return ServedState(state.ids[:length])

    # --- decoding ----------------------------------------------------------------------------
    def stream(self, asked: Asked, cancelled: Cancelled) -> Generator[Told, None, StreamEnd]:
        """The server's own decoding, with its samplers in our order."""
        given = list(asked.ids) if asked.ids is not None else self.encode(asked.text).ids.tolist()
        k, ids, predicted = max(asked.top, WIDE), list(given), 0
        s = asked.sampler
        greedy = s.get("temperature", 0.0) == 0.0 and not asked.bias
        for i in asked.bias:
            self.piece(i)
        body = {
            "prompt": given, "n_predict": asked.max_new_tokens, "n_probs": k, "stream": True,
            "cache_prompt": True, "return_tokens": True, "samplers": list(ORDER),
            "temperature": s.get("temperature", 0.0), "top_k": int(s.get("top_k", 0)),
            "top_p": s.get("top_p", 1.0), "min_p": s.get("min_p", 0.0),
            "repeat_penalty": s.get("repetition_penalty", 1.0),
            "repeat_last_n": len(given) + asked.max_new_tokens,
            "seed": int(s.get("seed", 0)) % (1 << 32),
            "logit_bias": [[i, b if b > -math.inf else False] for i, b in asked.bias.items()],
        }  # fmt: skip
        for event in events(self._connection.lines("/completion", body, cancelled)):
            now = shapes.field(event, "tokens_predicted", int, "an event")
            rows = shapes.entries(event.get("completion_probabilities"))
            text = shapes.field(event, "content", str, "an event").encode()
            last = event.get("stop") is True
            lost = now - predicted - len(rows)
            if lost < 0 or now > asked.max_new_tokens:
                raise shapes.strange("its count of tokens is wrong")
            kept = b"" if last or not rows else text[: len(text) - len(self._said(rows))]
            if lost and (greedy or not last):
                for told in self._lost(ids, lost, None if last else kept, k, cancelled):
                    ids.append(told.id)
                    yield told
            predicted = now
            for row in rows:
                told = self._told(row, k)
                ids.append(told.id)
                yield told
            if last:
                return "length" if event.get("stop_type") == "limit" else "eos"
        if cancelled():
            return "cancelled"
        raise RemoteError("its stream ended before it said so; what came is kept")

    def _said(self, rows: Sequence[shapes.Entry]) -> bytes:
        return b"".join(self.piece(self._number(r.came)) for r in rows)

    def _told(self, row: shapes.Entry, k: int) -> Told:
        token = self._number(row.came)
        return Told(token, self.piece(token), self._top([row], k))

    def _lost(
        self, ids: Sequence[int], count: int, data: bytes | None, k: int, cancelled: Cancelled
    ) -> Iterator[Told]:
        """Tokens that ended inside a character: the likeliest that their bytes leave possible.

        ``data``: all their bytes; None: not told, and decoding was greedy.
        """
        ids = list(ids)
        for left in range(count, 0, -1):
            row = self._after(ids, self._harmless, len(self._table), cancelled)
            if row is None:
                return
            for c in sorted(row.top, key=lambda c: -c.logprob):
                piece = self.piece(self._number(c))
                if data is None or (left == 1 and piece == data):
                    break
                if left > 1 and piece and data.startswith(piece):
                    break
            else:
                raise shapes.strange("the bytes of a token are not told")
            data = None if data is None else data[len(piece) :]
            ids.append(self._number(c))
            yield self._told(shapes.Entry(c, row.top), k)

    # --- scoring -----------------------------------------------------------------------------
    def score(
        self, ids: Sequence[int], start: int, top: int, cancelled: Cancelled
    ) -> Iterator[Top]:
        """One request a token: the one that is there is made to come, its raw logprob told."""
        k = max(top, WIDE)
        for t in range(start, len(ids)):
            wanted = int(ids[t])
            row = self._after(ids[:t], wanted, k, cancelled)
            if row is None or (row.came.id != wanted and not cancelled()):
                row = self._whole(ids[:t], wanted, cancelled)
            if row is None or cancelled():
                return
            yield self._top([row], k)

    def scoring_cost(self, count: int) -> str:
        """So many requests, and about how long they take."""
        seconds = count * self._ms / 1e3
        return f"{count} requests of one token each, about {max(seconds, 0.1):.1f} s"

    def _whole(self, ids: Sequence[int], wanted: int, cancelled: Cancelled) -> shapes.Entry | None:
        """The whole distribution, for a token that ends inside a character: those are not sent."""
        row = self._after(ids, self._harmless, len(self._table), cancelled)
        if row is None:
            return None
        found = next((c for c in row.top if c.id == wanted), None)
        if found is None:
            raise shapes.strange("a token is missing from the whole distribution")
        return shapes.Entry(found, row.top)

    def _after(
        self, ids: Sequence[int], forced: int, k: int, cancelled: Cancelled
    ) -> shapes.Entry | None:
        """The distribution after ``ids``, with ``forced`` as the token that came; None where the
        server holds that back, or nobody waits any more."""
        began = time.perf_counter()
        answer = self._connection.post("/completion", {
            "prompt": [int(i) for i in ids], "n_predict": 1, "n_probs": max(k, 1),
            "temperature": 0.0, "cache_prompt": True, "logit_bias": [[forced, CERTAIN]],
            "response_fields": ["completion_probabilities"],
        }, cancelled)  # fmt: skip
        if cancelled():
            return None
        ms = (time.perf_counter() - began) * 1e3
        self._ms = ms if not self._ms else self._ms + 0.1 * (ms - self._ms)
        held = answer.get("completion_probabilities") if isinstance(answer, dict) else None
        rows = shapes.entries(held)
        return rows[0] if rows else None

    def _top(self, rows: Sequence[shapes.Entry | None], k: int, came: bool = True) -> Top:
        held = [r for r in rows if r is not None]
        if len(held) != len(rows):
            raise shapes.strange("it gives no probabilities")
        top = shapes.top_of(held, self._number, k)
        return top if came else Top(top.ids, top.logprobs, top.missing)

    def _number(self, c: shapes.Candidate) -> int:
        if not 0 <= c.id < len(self._table):
            raise shapes.strange("an id is not in its vocabulary")
        return c.id


def encoded(text: str) -> bytes:
    """UTF-8. Raises InputError for half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError("text", f"lone surrogate at character {error.start}") from None


def _never() -> bool:
    return False
