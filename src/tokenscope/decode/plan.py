"""What to decode, made ready: the input of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tokenscope.decode.appliers import NONE, Applied
from tokenscope.decode.changed import Likeliest
from tokenscope.decode.sampling import Sampler
from tokenscope.decode.step import Step
from tokenscope.metrics.series import CHANGED
from tokenscope.trace.columns import F32
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens

AttentionForm = Literal["none", "top", "full"]
Speculate = Literal["auto", "none"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What to decode.

    ``given``: all tokens that stand before the first decoded one. ``shared``: the start of them
    that is measured already. ``n_prompt``: index of the first token that counts as generated
    (tokens that were forced into a branch count). ``running``: whether running perplexity covers
    given tokens too (scoring). ``known``: the token right after ``shared``, measured already: a
    branch by an alternative needs no second look at the distribution that offered it.
    ``applied``: standing edits, made ready. ``speculate``: see ``decode.lookup``.
    ``bias``: nats by id that a server which decodes by itself is asked to add. ``fresh``: begin
    with an empty memory, whatever is kept. ``drawn``: the columns of ``metrics.series.CHANGED``
    over the first tokens where a parent drew them (NaN elsewhere): a branch keeps them, also where
    it measures again. ``likeliest``: no draws, see ``decode.changed``.
    """

    given: Tokens
    n_prompt: int
    max_new_tokens: int
    sampler: Sampler
    stop_ids: frozenset[int]
    stop: tuple[bytes, ...] = ()
    alternatives: int = 10
    attention: AttentionForm = "top"
    shared: Trace | None = None
    running: bool = False
    known: Step | None = None
    applied: Applied = NONE
    speculate: Speculate = "none"
    fresh: bool = False
    bias: Mapping[int, float] = field(default_factory=dict)
    drawn: Mapping[str, F32] = field(default_factory=dict)
    likeliest: Likeliest | None = None

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns of what was changed between the model's own distribution and the draw."""
        masked, inner = bool(self.applied.processors), bool(self.applied.inner)
        made = {
            "logprob_inner": inner, "logprob_masked": masked, "price": masked or inner,
            "logprob_sampled": masked or self.sampler.changes,
        }  # fmt: skip
        return tuple(n for n in CHANGED if made[n] or n in self.drawn)

    @property
    def have(self) -> int:
        """How many tokens are measured before anything is fed."""
        return (len(self.shared) if self.shared is not None else 0) + (self.known is not None)

    @property
    def record_from(self) -> int:
        """The first token whose attention row is to be recorded."""
        if self.attention == "none":
            return 1 << 62
        if self.applied.inner:  # rows are those of the changed pass, which draws and nothing else
            return len(self.given)
        held = self.shared.attention if self.shared is not None else None
        if (
            self.shared is not None and held is not None and held.form == self.attention
            and held.first + held.count == len(self.shared)
        ):  # fmt: skip
            return self.have
        return max(self.n_prompt, 1, self.have)
