"""What is to be explained: the logprob of a token, or A rather than B."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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


# of the largest logit: a cache that a family uses in its own way is off by far more
CACHE_ERROR = {torch.float16: 2e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class Asked:
    """A target with the text it stands on: ``embeds`` (1, at, d) and ``value`` f(x) in nats.

    ``start``: how many start tokens the text begins with (no context leaves them alone);
    ``lines``: pairs of token indices, first and one past the last; ``newline``: the id of the
    token that is a line's end, where the vocabulary has one. What every table needs is run
    once and kept: the logits of the text itself, its cache, what taking out a group did.
    """

    internals: Internals
    ids: tuple[int, ...]
    target: Target
    start: int = 0
    lines: tuple[tuple[int, int], ...] = ()
    newline: int | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

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

    def logits(self) -> Tensor:
        """(V,) float32 logits after the text itself, through the path that explains."""
        if "logits" not in self._kept:
            with torch.no_grad():
                self._kept["logits"] = self.internals.logits(self.embeds())[0].detach()
        kept: Tensor = self._kept["logits"]
        return kept

    def value(self) -> float:
        """f(x) of the text itself."""
        return float(self.target.of(self.logits()[None])[0])

    def prior(self) -> float:
        """f without context: every token but the start token replaced by the mean embedding."""
        if "prior" not in self._kept:
            rows = self.embeds().clone()
            rows[:, self.start :] = self.internals.mean_embedding()
            self._kept["prior"] = float(self.values(rows)[0])
        kept: float = self._kept["prior"]
        return kept

    def drops(self) -> dict[tuple[int, ...], float]:
        """What taking out a group of tokens did, as far as it was tried (see ``occlude``)."""
        kept: dict[tuple[int, ...], float] = self._kept.setdefault("drops", {})
        return kept

    def treated(self, how: str) -> dict[bytes, float]:
        """f by the mask of what was taken away in the manner ``how`` (see ``faithfulness``)."""
        kept: dict[bytes, float] = self._kept.setdefault(f"treated {how}", {})
        return kept

    def prefix(self) -> Any:
        """A cache of the text, or None where a run resumed from it is not the run itself."""
        if "prefix" not in self._kept:
            self._kept["prefix"] = self._believed()
        return self._kept["prefix"]

    def _believed(self) -> Any:
        embeds, last = self.embeds(), self.n - 1
        cache = self.internals.prefix(embeds) if last else None
        if cache is None:
            return None
        whole = self.logits()
        resumed = self.internals.resume(cache, last, embeds[:, last:])[0]
        limit = CACHE_ERROR.get(embeds.dtype, 1e-3) * float(whole.abs().max())
        return cache if float((resumed - whole).abs().max()) <= limit else None


def ask(
    internals: Internals, ids: list[int], target: Target, start: int = 0,
    lines: tuple[tuple[int, int], ...] = (), newline: int | None = None,
) -> Asked:  # fmt: skip
    """Check a target against the whole sequence ``ids``. Raises InputError."""
    target.check(len(ids), int(internals.embedding_weight.shape[0]))
    before = tuple(int(i) for i in ids[: target.at])
    return Asked(internals, before, target, min(start, len(before)), lines, newline)


# rows of a batch are chosen so that about this many token positions run at once
BATCH_POSITIONS = 4096


def batch_rows(length: int) -> int:
    """How many sequences of ``length`` tokens run in one batch."""
    return max(1, min(64, BATCH_POSITIONS // max(1, length)))
