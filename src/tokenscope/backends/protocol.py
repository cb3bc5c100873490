"""What a backend is: text to ids and bytes, ids to logits, states that can be extended and forked.

The walk: ``encode`` -> ``start`` -> ``extend`` (many tokens: prefill; one: a step) -> ``fork``.
A backend declares *abilities*; a face refuses plainly what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from tokenscope.trace.tokens import Tokens

ForkKind = Literal["crop", "copy", "none"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a loaded model. ``attention_layers``: layer numbers that have attention.

    ``notes`` are plain sentences on what was chosen at load time (kernel, dtype, fallbacks).
    ``start_token``: the literal put before plain prompts, "" for none. ``errors``: column -> how
    far 16-bit arithmetic moved it between one prefill and cached steps, measured at load on a
    probe text, in the column's own unit; {} for float32.
    """

    name: str
    path: str
    architecture: str
    backend: str
    parameters: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocab: int
    context: int
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


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a backend can do.

    ``logits``: the full distribution (else only top-K: columns are bounds). ``attention``: rows of
    all heads. ``fork``: ``crop`` at any position, ``copy`` only where a state was kept, ``none``.
    ``internals``: gradients and hooks into modules (explanations, ablation).
    """

    logits: bool = True
    attention: bool = True
    fork: ForkKind = "crop"
    infill: bool = False
    chat: bool = False
    internals: bool = False


@dataclass(slots=True)
class Rows:
    """Which attention rows an ``extend`` is to hand back: those of its last ``last`` queries."""

    last: int = 0


@dataclass(slots=True)
class Extension:
    """What one ``extend`` gives back.

    ``logits`` float32 (n, V) on the model's device: row i is the distribution of the token *after*
    the i-th new one. ``attention``: one float32 tensor (H, rows, keys) per attention layer, or [].
    """

    logits: torch.Tensor
    attention: list[torch.Tensor]


class State(Protocol):
    """The model's memory of a prefix: opaque but for its ids and its size."""

    @property
    def ids(self) -> Sequence[int]:
        """The ids that the state has seen."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that the state holds."""
        ...


@runtime_checkable
class Backend(Protocol):
    """One loaded model. Not thread safe: callers take turns (see ``decode.prefixes``)."""

    info: ModelInfo
    abilities: Abilities
    stop_ids: frozenset[int]

    def encode(self, text: str, bos: bool = True) -> Tokens:
        """Text to tokens whose bytes concatenate to the text exactly. Raises InputError."""
        ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> Tokens:
        """Messages through the tokenizer's chat template. Raises AbilityError without one."""
        ...

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        """Prefix and suffix in the model's infill order. Raises AbilityError without marks."""
        ...

    def piece(self, token_id: int) -> bytes:
        """The bytes of one id (b"" for a special one). Raises InputError for an unknown id."""
        ...

    def label(self, token_id: int) -> str | None:
        """The literal of a special id, None for an ordinary one."""
        ...

    def start(self) -> Any:
        """An empty state."""
        ...

    def extend(self, state: Any, ids: Sequence[int], rows: Rows | None = None) -> Extension:
        """Feed ids. Raises InputError for an unknown id, CapacityError past the context."""
        ...

    def fork(self, state: Any, length: int) -> Any:
        """A state of its own that has seen the first ``length`` ids of ``state``.

        Raises AbilityError when the backend cannot go back to that length.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...
