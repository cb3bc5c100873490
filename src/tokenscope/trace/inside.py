"""Edits inside the model: values, checked when they are made.

They change what the model computes while it reads the tokens ``at``..``until - 1`` (by default all,
the prompt too), so the memory of those tokens is made under them. The distribution of token t is
read off token t - 1: an edit from ``at`` on changes the tokens that come after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokenscope.errors import InputError
from tokenscope.trace.edits import EDITS, Standing, one_of, strings, whole

PARTS = ("head", "attention", "mlp", "layer")
HOWS = ("zero", "mean", "resample")
SITES = ("head", "attention", "mlp", "residual")
MOST_TEXT = 200_000  # characters of a reference text
MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class Ablate(Standing):
    """One part gives something else than what it computed.

    ``part``: ``head`` (its output before the output projection), ``attention``, ``mlp``, or
    ``layer`` (all that the layer adds). ``how``: ``zero``; ``mean``: its mean over the positions of
    the ``reference`` text but the first (Wang 2022); ``resample``: what it gave at a position of
    that text drawn by (``seed``, position).
    """

    kind: ClassVar[str] = "ablate"
    part: str
    layer: int
    head: int = -1
    how: str = "zero"
    reference: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        self.check()
        one_of(self.kind, "part", self.part, PARTS)
        one_of(self.kind, "how", self.how, HOWS)
        whole(self.kind, "layer", self.layer, 0, MOST_LAYERS)
        whole(self.kind, "head", self.head, -1, MOST_LAYERS)
        whole(self.kind, "seed", self.seed, 0, (1 << 53) - 1)
        if (self.part == "head") != (self.head >= 0):
            raise InputError(self.kind, "a head is named by its number, and only a head")
        if (self.how == "zero") == bool(self.reference):
            raise InputError(self.kind, "mean and resample need a reference text, zero has none")
        if self.reference:
            strings(self.kind, "reference", (self.reference,), 1, MOST_TEXT)


@dataclass(frozen=True, slots=True)
class Attend(Standing):
    """Attention to some of the given tokens times ``factor``, before it is renormalised.

    ``factor`` 0 blocks it; above 1 it steers towards them (PASTA, Zhang 2023, scales down the
    others instead, which is the same). The tokens: ``tokens``, pairs (first, one past the last);
    those of every occurrence of ``text``; or those of every syntax region whose kind or category
    is ``region`` ("comment"). ``layers``, ``heads``: () for all.
    """

    kind: ClassVar[str] = "attend"
    factor: float
    tokens: tuple[tuple[int, int], ...] = ()
    text: str = ""
    region: str = ""
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.check()
        factor = self.factor
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or (
            not 0 <= factor <= 1e4 or 0 < factor < 1e-4
        ):  # fmt: skip
            raise InputError(self.kind, "factor must be 0 or lie in 0.0001..10000")
        if sum(map(bool, (self.tokens, self.text, self.region))) != 1:
            raise InputError(self.kind, "give exactly one of tokens, text and region")
        for span in self.tokens:
            if not isinstance(span, tuple) or len(span) != 2:
                raise InputError(self.kind, "tokens must hold pairs: first, one past the last")
            whole(self.kind, "tokens", span[0])
            whole(self.kind, "tokens", span[1], span[0] + 1)
        for name in ("text", "region"):
            if getattr(self, name):
                strings(self.kind, name, (getattr(self, name),), 1)
        for name in ("layers", "heads"):
            if not isinstance(getattr(self, name), tuple):
                raise InputError(self.kind, f"{name} must hold numbers")
            for n in getattr(self, name):
                whole(self.kind, name, n, 0, MOST_LAYERS)


@dataclass(frozen=True, slots=True)
class Steer(Standing):
    """``strength`` times a steering vector is added to the residual stream before a layer.

    ``vector``: the digest of one that was made (``model.steering_vector``) and is kept; it knows
    its layer. Strength 1 is the difference of means itself (Turner 2023; Rimsky 2024).
    """

    kind: ClassVar[str] = "steer"
    vector: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        self.check()
        if not (isinstance(self.vector, str) and len(self.vector) == 64):
            raise InputError(self.kind, "vector must be the digest of a steering vector")
        if set(self.vector) - set("0123456789abcdef"):
            raise InputError(self.kind, "vector must be the digest of a steering vector")
        value = self.strength
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(self.kind, "strength must be a number")
        if not math.isfinite(value) or abs(value) > 1e4:
            raise InputError(self.kind, "strength must lie in -10000..10000")


@dataclass(frozen=True, slots=True)
class Patch(Standing):
    """At position ``at``, a part gives what it gave in another run (activation patching).

    ``source``: the ids of that run, read without any edit up to its position ``from_token``.
    ``part``: ``head``, ``attention``, ``mlp``, or ``residual`` (the stream before ``layer``).
    """

    kind: ClassVar[str] = "patch"
    part: str
    layer: int
    source: tuple[int, ...]
    from_token: int
    head: int = -1

    def __post_init__(self) -> None:
        self.check()
        one_of(self.kind, "part", self.part, SITES)
        whole(self.kind, "layer", self.layer, 0, MOST_LAYERS)
        whole(self.kind, "head", self.head, -1, MOST_LAYERS)
        if (self.part == "head") != (self.head >= 0):
            raise InputError(self.kind, "a head is named by its number, and only a head")
        if not isinstance(self.source, tuple) or not 0 < len(self.source) <= 100_000:
            raise InputError(self.kind, "source must hold the ids of the other run")
        for i in self.source:
            whole(self.kind, "source", i)
        whole(self.kind, "from_token", self.from_token, 0, len(self.source) - 1)
        if self.until is not None and self.until != self.at + 1:
            raise InputError(self.kind, "it happens at one position: until is at + 1")

    def holds(self, position: int) -> bool:
        """At its position alone."""
        return position == self.at


for _kind in (Ablate, Attend, Steer, Patch):
    EDITS.add(_kind.kind, _kind)
