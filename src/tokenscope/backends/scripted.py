"""Backends that follow a script: the public fakes for everybody's tests. No weights, no files.

They are deterministic, byte exact, and honour the whole protocol, so that golden traces can be
written down by hand. :class:`ScriptedBackend` is a model that runs here; :class:`ScriptedTop`
tells, like a server, only the most likely tokens, and no sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.protocol import (
    Abilities,
    Asked,
    Extension,
    Feed,
    ForkKind,
    Full,
    ModelInfo,
    Scores,
    StreamEnd,
    Told,
    Top,
)
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.trace.tokens import Tokens

END = 256  # the id of the end token; ids 0..255 are the bytes themselves
F32 = NDArray[np.float32]
Script = Callable[[Sequence[int]], F32]


@dataclass(slots=True)
class ScriptedState:
    """The ids that the state has seen."""

    ids: list[int] = field(default_factory=list)
    nbytes: int = 64

    @property
    def blocks(self) -> Mapping[int, int]:
        """One block of its own."""
        return {id(self): self.nbytes}


def hashed(ids: Sequence[int]) -> F32:
    """Logits (257,) that depend on the whole prefix and on nothing else."""
    seed = hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).digest()[:8]
    random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    return random.normal(0.0, 3.0, 257).astype(np.float32)


def saying(text: str, strength: float = 8.0) -> Script:
    """A script that continues with ``text`` (by position), then ends; all else is unlikely."""
    wanted = [*text.encode(), END]

    def script(ids: Sequence[int]) -> F32:
        logits = hashed(ids) * np.float32(0.1)
        logits[wanted[min(len(ids), len(wanted) - 1)]] += strength
        return logits

    return script


class ScriptedBackend:
    """Tokens are single bytes (ids 0..255) and an end token (256). ``script`` gives logits."""

    def __init__(
        self,
        script: Script = hashed,
        *,
        context: int = 4096,
        layers: int = 2,
        heads: int = 2,
        fork: ForkKind = "crop",
        attention: bool = True,
    ) -> None:
        self.script = script
        self.stop_ids = frozenset({END})
        self._context = context
        self.fed = 0  # tokens fed in all: what a test of state reuse looks at
        self.abilities = Abilities(attention=attention, fork=fork)
        self.info = ModelInfo(
            name="scripted", path="", architecture="Scripted", backend="scripted", parameters=0,
            layers=layers, heads=heads, kv_heads=heads, hidden=0, vocab=257, context=context,
            dtype="float32", device="cpu", kernel="scripted", model_digest="scripted",
            tokenizer_digest="bytes", attention_layers=tuple(range(layers)) if attention else (),
            state_bytes_per_token=8,
        )  # fmt: skip

    def encode(self, text: str, bos: bool = True) -> Tokens:
        """One token per UTF-8 byte."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InputError("text", f"lone surrogate at character {error.start}") from None
        return Tokens.of(list(data), [bytes([b]) for b in data])

    def piece(self, token_id: int) -> bytes:
        """The byte that the id stands for; b"" for the end token."""
        if not 0 <= token_id <= END:
            raise InputError("token id", f"{token_id} is not in 0..{END}")
        return bytes([token_id]) if token_id < END else b""

    def label(self, token_id: int) -> str | None:
        """``<end>`` for the end token."""
        return "<end>" if token_id == END else None

    def start(self) -> ScriptedState:
        """An empty state."""
        return ScriptedState()

    def extend(self, feed: Feed) -> Extension:
        """One feed."""
        return self.extend_many([feed])[0]

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        """Logits by the script; attention weight of key j is proportional to j + head + 1."""
        for n, feed in enumerate(feeds):
            self._check(feed, [f.state for f in feeds[:n]])
        return [self._extend(f) for f in feeds]

    def _check(self, feed: Feed, others: Sequence[ScriptedState]) -> None:
        if any(feed.state is o for o in others):
            raise InputError("state", "is fed twice at once")
        if feed.changes:
            raise AbilityError("this backend has no inside that could be changed")
        if not len(feed.ids):
            raise InputError("ids", "nothing to feed")
        past = len(feed.state.ids)
        if past + len(feed.ids) > self._context:
            raise CapacityError("context is full", fits=self._context - past)
        for i in feed.ids:
            self.piece(int(i))

    def _extend(self, feed: Feed) -> Extension:
        n = len(feed.ids)
        wanted = n if feed.scores is None else min(feed.scores, n)
        logits = []
        for at, i in enumerate(feed.ids):
            feed.state.ids.append(int(i))
            if at >= n - wanted:
                logits.append(self.script(feed.state.ids))
        self.fed += n
        last = min(feed.rows, n)
        rows = [self._rows(len(feed.state.ids), last) for _ in self.info.attention_layers if last]
        return Extension(self._scores(np.stack(logits)) if logits else None, rows)

    def _scores(self, logits: F32) -> Scores:
        return Full(logits)

    def _rows(self, total: int, last: int) -> F32:
        keys = np.arange(total, dtype=np.float32)
        at = np.arange(total - last, total)[None, :, None]
        heads = np.arange(self.info.heads or 0, dtype=np.float32)[:, None, None]
        weights = (keys[None, None] + heads + 1.0) * (keys[None, None] <= at)
        rows: F32 = (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
        return rows

    def back(self, state: ScriptedState, count: int) -> None:
        """The state without its last ``count`` ids."""
        if not 0 <= count <= len(state.ids):
            raise InputError("count", f"must lie in 0..{len(state.ids)}")
        if self.abilities.fork != "crop":
            raise AbilityError("this backend cannot go back")
        del state.ids[len(state.ids) - count :]

    def fork(self, state: ScriptedState, length: int) -> ScriptedState:
        """A copy of the first ``length`` ids."""
        if not 0 <= length <= len(state.ids):
            raise InputError("length", f"must lie in 0..{len(state.ids)}")
        if self.abilities.fork == "none" and length:
            raise AbilityError("this backend cannot fork")
        if self.abilities.fork == "copy" and length not in (0, len(state.ids)):
            raise AbilityError("this backend cannot go back")
        return ScriptedState(state.ids[:length])

    def close(self) -> None:
        """Nothing to give back."""


class ScriptedTop(ScriptedBackend):
    """The same script seen through a server: the ``k`` most likely tokens, no sizes, no rows.

    It can be fed (``steps``), it can decode greedily by itself (``stream``) and score a text
    (``scoring``); ``Told.scores`` and the scores of a text know the chosen token's logprob.
    """

    def __init__(
        self, script: Script = hashed, *, k: int = 5, context: int = 4096, fork: ForkKind = "crop"
    ) -> None:
        super().__init__(script, context=context, fork=fork, attention=False)
        self.k = k
        self.abilities = replace(self.abilities, scores="top", stream=True, scoring=True)
        self.info = replace(
            self.info, name="scripted top", parameters=None, layers=None, heads=None, kv_heads=None,
            hidden=None, vocab=None, context=None, state_bytes_per_token=0,
        )  # fmt: skip

    def _scores(self, logits: F32) -> Top:
        return top_of(logits, self.k)

    def stream(
        self, asked: Asked, cancelled: Callable[[], bool]
    ) -> Generator[Told, None, StreamEnd]:
        """Greedy decoding of ``asked.ids``, or of its text."""
        state = self.start()
        ids = asked.ids if asked.ids is not None else self.encode(asked.text).ids.tolist()
        self.extend(Feed(state, list(ids), scores=1))
        for _ in range(asked.max_new_tokens):
            if cancelled():
                return "cancelled"
            top = top_of(self.script(state.ids)[None], min(self.k, asked.top) or 1)
            chosen = int(top.ids[0, 0])
            yield Told(chosen, self.piece(chosen), replace(top, chosen=top.logprobs[:, 0]))
            if chosen == END:
                return "eos"
            self.extend(Feed(state, [chosen], scores=1))
        return "length"

    def score(
        self, ids: Sequence[int], start: int, top: int, cancelled: Callable[[], bool]
    ) -> Iterator[Top]:
        """All in one piece."""
        logits = np.stack([self.script(ids[:t]) for t in range(start, len(ids))])
        chosen = _log_softmax(logits)[np.arange(len(ids) - start), list(ids[start:])]
        yield replace(top_of(logits, min(self.k, top) or 1), chosen=chosen)

    def scoring_cost(self, count: int) -> str:
        """It costs nothing."""
        return ""


def _log_softmax(logits: F32) -> F32:
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    out: F32 = (z - np.log(np.exp(z).sum(axis=1, keepdims=True))).astype(np.float32)
    return out


def top_of(logits: F32, k: int) -> Top:
    """The ``k`` most likely of (n, V) logits; of equal ones the smaller id first."""
    logp = _log_softmax(logits)
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int32)
    held = np.take_along_axis(logp, ids, axis=1)
    missing = np.maximum(1.0 - np.exp(held.astype(np.float64)).sum(axis=1), 0.0)
    return Top(ids, held, missing)
