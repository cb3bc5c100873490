"""How a caller wants a sequence decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenscope.decode.changed import Likeliest
from tokenscope.decode.plan import AttentionForm, Speculate
from tokenscope.decode.sampling import Sampler
from tokenscope.errors import InputError
from tokenscope.trace.edits import Edit
from tokenscope.trace.origin import Segment

MAX_ALTERNATIVES = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode; see ``decode.sampling.Sampler`` for the sampler's own.

    ``alternatives``: how many candidates each position keeps. ``attention``: ``none``, ``top``
    (the heaviest entries of every row) or ``full`` (float16 rows). ``edits``: standing edits (ban,
    bias ...) in force for every token that is decoded. ``speculate``: ``auto`` lets what followed
    an earlier repeat be checked in one pass (same tokens, fewer passes), ``none`` never.
    ``likeliest``: no draws, see ``decode.changed``; no part of what a trace keeps.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    alternatives: int = 10
    attention: AttentionForm = "top"
    edits: tuple[Edit, ...] = ()
    speculate: Speculate = "auto"
    likeliest: Likeliest | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "edits", tuple(self.edits))
        for name, top in (("max_new_tokens", 1 << 24), ("alternatives", MAX_ALTERNATIVES)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
                raise InputError(name, f"must be a whole number in 0..{top}")
        if self.attention not in ("none", "top", "full"):
            raise InputError("attention", "must be none, top or full")
        if any(not isinstance(s, str) or not s for s in self.stop):
            raise InputError("stop", "must hold non-empty strings")
        if not all(isinstance(e, Edit) and e.standing for e in self.edits):
            raise InputError("edits", "must hold standing edits (Ban, Bias, ...)")
        if self.speculate not in ("auto", "none"):
            raise InputError("speculate", "must be auto or none")
        self.sampler()

    def sampler(self) -> Sampler:
        """The sampler's part. Raises InputError for values that make no sense."""
        return Sampler(
            self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty,
            self.seed,
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """The settings but seed and edits, as plain values: what a segment keeps."""
        return {
            **self.sampler().to_json(), "max_new_tokens": self.max_new_tokens,
            "stop": list(self.stop), "alternatives": self.alternatives,
            "attention": self.attention, "speculate": self.speculate,
        }  # fmt: skip

    @classmethod
    def of(cls, segment: Segment, **others: Any) -> Settings:
        """The settings that made a segment, some of them replaced. Keys it does not know go."""
        held: Mapping[str, Any] = segment.sampler
        known = {k: v for k, v in held.items() if k in cls.__dataclass_fields__}
        return cls(**{**known, "seed": segment.seed, "edits": segment.edits, **others})
