"""A backend that follows a script: the public fake for everybody's tests. No weights, no files.

It is deterministic, byte exact, and honours the whole protocol, so that golden traces can be
written down by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tokenscope.backends.protocol import Abilities, Extension, ForkKind, ModelInfo, Rows
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.trace.tokens import Tokens

END = 256  # the id of the end token; ids 0..255 are the bytes themselves
Script = Callable[[Sequence[int]], np.ndarray[tuple[int], np.dtype[np.float32]]]


@dataclass(slots=True)
class ScriptedState:
    """The ids that the state has seen."""

    ids: list[int] = field(default_factory=list)
    nbytes: int = 64


def hashed(ids: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Logits (257,) that depend on the whole prefix and on nothing else."""
    seed = hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).digest()[:8]
    random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    return random.normal(0.0, 3.0, 257).astype(np.float32)


def saying(text: str, strength: float = 8.0) -> Script:
    """A script that continues with ``text`` (by position), then ends; all else is unlikely."""
    wanted = [*text.encode(), END]

    def script(ids: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
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

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> Tokens:
        """Not supported."""
        raise AbilityError("the scripted backend has no chat template")

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        """Not supported."""
        raise AbilityError("the scripted backend has no infill tokens")

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

    def extend(
        self, state: ScriptedState, ids: Sequence[int], rows: Rows | None = None
    ) -> Extension:
        """Logits by the script; attention weight of key j is proportional to j + head + 1."""
        if len(state.ids) + len(ids) > self.info.context:
            raise CapacityError("context is full", fits=self.info.context - len(state.ids))
        for i in ids:
            self.piece(int(i))
        logits = []
        for i in ids:
            state.ids.append(int(i))
            logits.append(self.script(state.ids))
        self.fed += len(ids)
        last = min(rows.last, len(ids)) if rows is not None else 0
        attention = [self._rows(len(state.ids), last) for _ in self.info.attention_layers if last]
        return Extension(torch.from_numpy(np.stack(logits)), attention)

    def _rows(self, total: int, last: int) -> torch.Tensor:
        keys = torch.arange(total, dtype=torch.float32)
        at = torch.arange(total - last, total)[None, :, None]
        heads = torch.arange(self.info.heads, dtype=torch.float32)[:, None, None]
        weights = (keys[None, None] + heads + 1.0) * (keys[None, None] <= at)
        return weights / weights.sum(dim=-1, keepdim=True)

    def fork(self, state: ScriptedState, length: int) -> ScriptedState:
        """A copy of the first ``length`` ids."""
        if self.abilities.fork == "none":
            raise AbilityError("this backend cannot fork")
        if self.abilities.fork == "copy" and length not in (0, len(state.ids)):
            raise AbilityError("this backend cannot go back")
        return ScriptedState(state.ids[:length])

    def close(self) -> None:
        """Nothing to give back."""
