"""What a backend is, in parts that exist or do not: each is declared, none is guessed.

Every backend has what :class:`Backend` says. What more it can do stands in its *abilities*, and
each such part is a protocol of its own: ``vocabulary`` (text to ids and bytes), ``stepper`` (a
memory that is fed and forked), ``streamer`` (a server that decodes by itself), ``scorer``,
``internals``, ``infill``, ``chat``. Whoever needs a part asks for it by the function of that name,
which gives it, typed, or raises AbilityError.

The walk of a stepper: ``encode`` -> ``start`` -> ``extend_many`` -> ``fork``. Nothing here imports
torch: numbers stay where the backend has them until they are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, cast

from tokenscope.errors import AbilityError
from tokenscope.trace.tokens import Tokens

ForkKind = Literal["crop", "copy", "none"]
ScoreKind = Literal["full", "top"]
StreamEnd = Literal["eos", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a loaded model; None: the backend (a server) does not tell.

    ``attention_layers``: layer numbers that have attention. ``state_bytes_per_token``: what a
    state costs here (0: the memory is elsewhere). ``notes`` are plain sentences on what was chosen
    at load time (kernel, dtype, fallbacks). ``start_token``: the literal put before plain
    prompts, "" for none. ``weight_bytes``: what the weights take in memory here, with a packed
    second copy (0: not known). ``expert_layers``: layer numbers that are mixtures of experts whose
    routers can be read. ``errors``: column -> how far 16-bit arithmetic moved it between
    one prefill and cached steps, measured at load on a probe text, in the column's own unit; {}
    for float32.
    """

    name: str
    path: str
    architecture: str
    backend: str
    parameters: int | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    hidden: int | None
    vocab: int | None
    context: int | None
    dtype: str
    device: str
    kernel: str
    model_digest: str
    tokenizer_digest: str
    attention_layers: tuple[int, ...]
    state_bytes_per_token: int
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    start_token: str = ""
    errors: Mapping[str, float] = field(default_factory=dict)
    weight_bytes: int = 0
    expert_layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a backend can do.

    ``scores``: ``full`` distributions, or the ``top`` of them (columns are then bounds).
    ``vocabulary``, ``steps``, ``stream``, ``scoring``, ``infill``, ``chat``, ``internals``: the
    protocols below. ``attention``: rows of all heads. ``changes``: a feed's inner edits.
    ``fork``: ``crop`` at any position, ``copy`` only where a state was kept, ``none``. ``pools``:
    states that decode together share memory, and one that is kept for later is to be settled.
    """

    scores: ScoreKind = "full"
    attention: bool = True
    fork: ForkKind = "crop"
    infill: bool = False
    chat: bool = False
    internals: bool = False
    vocabulary: bool = True
    steps: bool = True
    stream: bool = False
    scoring: bool = False
    changes: bool = False
    pools: bool = False


class Deferred(Protocol):
    """Logits (n, V) that are made block by block: after a long feed (n, V) never exists whole."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, V)."""
        ...

    def __getitem__(self, at: Any) -> Any:
        """A slice is deferred too; a row number gives the row."""
        ...

    def make(self) -> Any:
        """All of them, float32 (n, V)."""
        ...


@dataclass(frozen=True, slots=True)
class Full:
    """n whole distributions. ``logits`` float32 (n, V): a tensor on its device, an array, or, where
    it says so, :class:`Deferred`."""

    logits: Any
    deferred: bool = False

    def __len__(self) -> int:
        return int(self.logits.shape[0])

    def cut(self, start: int, stop: int) -> Full:
        """The distributions ``start..stop-1``; what is deferred stays so."""
        return Full(self.logits[start:stop], self.deferred)

    def block(self, start: int, stop: int) -> Any:
        """The logits of ``start..stop-1``, made."""
        part = self.logits[start:stop]
        return part.make() if self.deferred else part


@dataclass(frozen=True, slots=True)
class Top:
    """The most likely tokens of n distributions: what a server tells. Arrays or tensors.

    ``ids`` int32 (n, K), -1 where there is none. ``logprobs`` float32 (n, K), most likely first,
    -inf where there is none. ``missing`` float (n,): 1 - sum of p, never below 0. ``chosen``
    float32 (n,): the logprob of the token that came, which may lie outside the top; NaN where
    nobody tells, None where nothing has come yet.
    """

    ids: Any
    logprobs: Any
    missing: Any
    chosen: Any = None

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def cut(self, start: int, stop: int) -> Top:
        """The distributions ``start..stop-1``."""
        chosen = None if self.chosen is None else self.chosen[start:stop]
        part = slice(start, stop)
        return Top(self.ids[part], self.logprobs[part], self.missing[part], chosen)


Scores = Full | Top


@dataclass(frozen=True, slots=True)
class Hidden:
    """A change of a feed of one id: its query cannot read the key at position ``key``, in any layer
    or head; the other keys take the weight over. The state is of no use for more afterwards."""

    key: int


@dataclass(frozen=True, slots=True)
class Feed:
    """What decoding wants done: these ids to this state.

    ``rows``: attention rows wanted of the last ``rows`` queries. ``scores``: distributions wanted
    after the last ``scores`` of the ids (None: after each, 0: none); others are never computed.
    ``changes``: inner edits in force while these ids are read; AbilityError where they cannot be.
    """

    state: Any
    ids: Sequence[int]
    rows: int = 0
    scores: int | None = None
    changes: tuple[Any, ...] = ()


@dataclass(slots=True, eq=False)
class RowBatch:
    """Attention rows of several states that were read in one pass, in one piece per layer.

    ``weights``: float32 (S, H / g, Q, g, C) per layer, in C columns. ``keys()``: int32 (S, C), the
    position that a column stands for, in rising order, -1: none. ``past``: (S,) the tokens that
    each had read before: its query j stands at ``past + j``. ``held``: what is made of all of them
    in one go, by whoever reduces them (``metrics.attention``).
    """

    weights: list[Any]
    keys: Callable[[], Any]
    past: Any
    held: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class RowsOf(Sequence[Any]):
    """The rows of one state in a batch, queries ``start..stop-1``: as in ``Extension.attention``,
    each layer cut out when it is asked for."""

    batch: RowBatch
    state: int
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.batch.weights)

    def __getitem__(self, layer: Any) -> Any:
        """float32 (H, rows, keys) of the n-th attention layer."""
        found = self.batch.weights[layer][self.state][:, self.start : self.stop].swapaxes(1, 2)
        held = self.batch.keys()[self.state] >= 0
        found = found.reshape(-1, self.stop - self.start, found.shape[-1])
        columns = held.nonzero()[0]
        first, last = int(columns[0]), int(columns[-1]) + 1
        if last - first == len(columns):
            return found[:, :, first:last]
        return found[:, :, columns.tolist()]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.stop - self.start


@dataclass(slots=True)
class Extension:
    """What one feed gives back.

    ``scores``: row i is the distribution of the token *after* the i-th wanted id; None where none
    was wanted. ``attention``: one float32 (H, rows, keys) per attention layer, or [].
    """

    scores: Scores | None
    attention: Sequence[Any]


class State(Protocol):
    """The model's memory of a prefix: opaque but for its ids and its size."""

    @property
    def ids(self) -> Sequence[int]:
        """The ids that the state has seen."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that the state holds, those that it shares with other states too."""
        ...

    @property
    def blocks(self) -> Mapping[int, int]:
        """Bytes of each block of memory by a key: states that share a block show the same key."""
        ...


class Backend(Protocol):
    """One model, here or on a server. Not thread safe: callers take turns."""

    info: ModelInfo
    abilities: Abilities
    stop_ids: frozenset[int]

    def close(self) -> None:
        """Give the memory back."""
        ...


class Vocabulary(Protocol):
    """Text to ids and bytes, and back."""

    def encode(self, text: str, bos: bool = True) -> Tokens:
        """Text to tokens whose bytes concatenate to the text exactly. Raises InputError."""
        ...

    def piece(self, token_id: int) -> bytes:
        """The bytes of one id (b"" for a special one). Raises InputError for an unknown id."""
        ...

    def label(self, token_id: int) -> str | None:
        """The literal of a special id, None for an ordinary one."""
        ...


class Stepper(Protocol):
    """A memory of what was read, fed with ids and forked."""

    def start(self) -> Any:
        """An empty state."""
        ...

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        """Do several feeds, each of its own state; the numbers are those of each alone.

        All are checked before the first is done. Raises InputError for an unknown id or a state
        that is fed twice, CapacityError past the context, AbilityError for changes.
        """
        ...

    def extend(self, feed: Feed) -> Extension:
        """``extend_many`` of one."""
        ...

    def back(self, state: Any, count: int) -> None:
        """Take the last ``count`` ids out of ``state`` again, in place; forks keep what they saw.

        For proposals that were not believed. Raises AbilityError where ``fork`` cannot go back.
        """
        ...

    def fork(self, state: Any, length: int) -> Any:
        """A state of its own that has seen the first ``length`` ids of ``state``.

        Raises InputError for a length outside the state, AbilityError when the backend cannot go
        back to that length.
        """
        ...


class Pools(Protocol):
    """Memory that the states under way have in common."""

    def settle(self, state: Any) -> None:
        """Give ``state`` memory of its own, of the size that it needs: nothing feeds it for now."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server is asked to decode: a text, or ids where it takes them.

    ``sampler``: temperature, top_k, top_p, min_p, repetition_penalty, seed. ``top``: how many
    candidates of each position it should tell. ``bias``: nats added to the logits of ids before
    anything is drawn (-inf: never drawn).
    """

    text: str
    max_new_tokens: int
    sampler: Mapping[str, float]
    stop: tuple[str, ...] = ()
    top: int = 10
    ids: tuple[int, ...] | None = None
    bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """One token of a server's stream; ``scores`` has one row, ``id`` is -1 where it is not told."""

    id: int
    piece: bytes
    scores: Top


class Streamer(Protocol):
    """A server that decodes by itself and tells what it did. Safe to use from several threads."""

    def stream(
        self, asked: Asked, cancelled: Callable[[], bool]
    ) -> Generator[Told, None, StreamEnd]:
        """Tokens as they come; ends early once ``cancelled()``. Returns why it ended.

        Raises CapacityError, RemoteError.
        """
        ...


class Scorer(Protocol):
    """A server that scores tokens given to it. Safe to use from several threads."""

    def score(
        self, ids: Sequence[int], start: int, top: int, cancelled: Callable[[], bool]
    ) -> Iterator[Top]:
        """The distributions of the tokens ``start..len(ids)-1`` (``start`` >= 1), in their order,
        in pieces of any size, with ``chosen``. Ends early once ``cancelled()``."""
        ...

    def scoring_cost(self, count: int) -> str:
        """What scoring ``count`` tokens takes, as a sentence; "" where it is one request."""
        ...


class Internals(Protocol):
    """A model whose module is at hand: for hooks and gradients."""

    model: Any  # a torch module in eval mode


class Infill(Protocol):
    """Marks for filling a gap."""

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        """Prefix and suffix in the model's infill order."""
        ...

    def infill_stops(self) -> frozenset[int]:
        """Ids at which an infill ends, besides ``stop_ids``."""
        ...


class Chat(Protocol):
    """A template for messages."""

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> Tokens:
        """Messages as the model was trained to see them. Raises InputError."""
        ...


P = TypeVar("P")


def _part(backend: Backend, declared: bool, lacks: str) -> Any:
    if not declared:
        raise AbilityError(f"this model {lacks}")
    return backend


def vocabulary(backend: Backend) -> Vocabulary:
    """The backend as a vocabulary. Raises AbilityError."""
    able = backend.abilities.vocabulary
    return cast(Vocabulary, _part(backend, able, "does not tell how text becomes tokens"))


def stepper(backend: Backend) -> Stepper:
    """The backend as something to feed. Raises AbilityError."""
    able = backend.abilities.steps
    return cast(Stepper, _part(backend, able, "decodes by itself; it cannot be fed"))


def pools(backend: Backend) -> Pools:
    """The backend whose states share memory while they decode. Raises AbilityError."""
    return cast(Pools, _part(backend, backend.abilities.pools, "pools no memory"))


def streamer(backend: Backend) -> Streamer:
    """The backend as a server that decodes. Raises AbilityError."""
    return cast(Streamer, _part(backend, backend.abilities.stream, "does not decode by itself"))


def scorer(backend: Backend) -> Scorer:
    """The backend as a server that scores. Raises AbilityError."""
    return cast(Scorer, _part(backend, backend.abilities.scoring, "cannot score a given text"))


def internals(backend: Backend) -> Internals:
    """The backend with its module. Raises AbilityError."""
    lacks = "gives no access to the model's internals"
    return cast(Internals, _part(backend, backend.abilities.internals, lacks))


def infill(backend: Backend) -> Infill:
    """The backend with infill marks. Raises AbilityError."""
    return cast(Infill, _part(backend, backend.abilities.infill, "has no infill tokens"))


def chat(backend: Backend) -> Chat:
    """The backend with a chat template. Raises AbilityError."""
    return cast(Chat, _part(backend, backend.abilities.chat, "has no chat template"))
