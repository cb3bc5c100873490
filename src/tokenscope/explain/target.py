"""What is to be explained: the logprob of a token, or A rather than B."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.errors import InputError


@dataclass(frozen=True, slots=True)
class Target:
    """The choice of token ``at`` given the tokens before it: id ``a``, perhaps against id ``b``."""

    at: int
    a: int
    b: int | None = None

    @property
    def kind(self) -> str:
        """Name of its definition."""
        return "target_logprob" if self.b is None else "target_contrast"

    def of(self, logits: Tensor) -> Tensor:
        """f (B,) from logits (B, V): ln p(A), or z_A - z_B."""
        if self.b is None:
            return torch.log_softmax(logits, dim=-1)[:, self.a]
        return logits[:, self.a] - logits[:, self.b]

    def check(self, length: int, vocab: int) -> None:
        """Raises InputError unless 1 <= at <= length and the ids exist and differ."""
        if not 1 <= self.at <= length:
            raise InputError("at", f"must lie in 1..{length}: token 0 has nothing before it")
        for name, value in (("token", self.a), ("contrast", self.b)):
            if value is not None and not 0 <= value < vocab:
                raise InputError(name, "is no id of the vocabulary")
        if self.a == self.b:
            raise InputError("contrast", "must differ from the token that it is compared with")


@dataclass(frozen=True, slots=True)
class Asked:
    """A target with the text it stands on: ``embeds`` (1, at, d) and ``value`` f(x) in nats."""

    internals: Internals
    ids: tuple[int, ...]
    target: Target

    @property
    def n(self) -> int:
        """Number of tokens before the explained one."""
        return self.target.at

    def embeds(self) -> Tensor:
        """(1, at, d) embeddings of the tokens before."""
        return self.internals.embed(self.ids)

    def values(self, embeds: Tensor) -> Tensor:
        """f (B,) of embeddings (B, at, d), without gradients."""
        with torch.no_grad():
            return self.target.of(self.internals.logits(embeds))

    def value(self) -> float:
        """f(x) of the text itself."""
        return float(self.values(self.embeds())[0])


def ask(internals: Internals, ids: list[int], target: Target) -> Asked:
    """Check a target against the whole sequence ``ids``. Raises InputError."""
    target.check(len(ids), int(internals.embedding_weight.shape[0]))
    return Asked(internals, tuple(int(i) for i in ids[: target.at]), target)


# rows of a batch are chosen so that about this many token positions run at once
BATCH_POSITIONS = 4096


def batch_rows(length: int) -> int:
    """How many sequences of ``length`` tokens run in one batch."""
    return max(1, min(64, BATCH_POSITIONS // max(1, length)))
