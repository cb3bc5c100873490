"""Ablation against a reference: zero, this text's own mean, or what a part does on other texts.

Wang 2022 (arXiv 2211.00593) replaces a part by its mean over a reference distribution; Chan 2022
(causal scrubbing) by what it did on another text drawn at random. Both keep the part's usual
size, which zero does not; the mean over the text's own positions removes only what varies in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.backends.hf.sites import Kind, Site, has, record, width
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.explain.cells import Cell, Cost, cost, recorded_bytes, run_cells, within
from tokenscope.explain.intervals import Interval, interval
from tokenscope.explain.memory import LIMIT
from tokenscope.explain.target import Asked

How = Literal["zero", "own_mean", "mean", "resample"]
Per = Literal["overall", "position"]
HOWS: tuple[How, ...] = ("zero", "own_mean", "mean", "resample")
Stand = dict[tuple[Kind, int], Tensor]
Draw = Callable[[], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Effect:
    """f(x) - f(x with the part replaced), nats. ``interval``: over the draws of ``resample``."""

    kind: Kind
    layer: int
    head: int
    effect: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class Reference:
    """What parts did on reference texts: (1, N, width) per site.

    ``how`` mean: N = 1 (``overall``) or the longest text (``position``); resample: all tokens.
    """

    how: How
    per: Per
    stood: Stand
    lengths: tuple[int, ...]
    texts: int
    tokens: int


def gather(
    internals: Internals, texts: Sequence[Sequence[int]], how: How = "mean", per: Per = "overall",
    kinds: Sequence[Kind] = ("heads", "mlp"), control: Control = QUIET, limit: int = LIMIT,
) -> Reference:  # fmt: skip
    """Run the reference texts, one at a time. Raises InputError, CapacityError.

    The first position of a text is left out of an overall mean or draw: most models park mass
    there, and its parts are unlike those of any other position.
    """
    if how not in ("mean", "resample"):
        raise InputError("how", "a reference serves mean and resample")
    if per not in ("overall", "position"):
        raise InputError("per", "must be overall or position")
    lengths = tuple(len(t) for t in texts)
    if not lengths or max(lengths) < 2:
        raise InputError("reference", "needs a text of at least two tokens")
    rows = sum(lengths) if how == "resample" else (max(lengths) if per == "position" else 1)
    kept = recorded_bytes(internals, rows, kinds) * (1 if how == "resample" else 2)
    within(kept + recorded_bytes(internals, max(lengths), kinds), sum(lengths), limit)
    parts: dict[tuple[Kind, int], list[Tensor]] = {}
    sums: Stand = {}
    counts = torch.zeros(rows, dtype=torch.float64, device=internals.device)
    for n, text in enumerate(texts):
        control.step(n, len(texts), "reference")
        _, stood = record(internals, internals.embed(text), kinds)
        for key, x in stood.items():
            if how == "resample":
                parts.setdefault(key, []).append(x[0])
            elif per == "position":
                total = sums.setdefault(key, x.new_zeros(rows, x.shape[-1], dtype=torch.float64))
                total[: x.shape[1]] += x[0].double()
            else:
                total = sums.setdefault(key, x.new_zeros(1, x.shape[-1], dtype=torch.float64))
                total += x[0, 1:].double().sum(0)
        counts[: len(text) if per == "position" else 1] += 1 if per == "position" else len(text) - 1
    control.step(len(texts), len(texts), "reference")
    dtype = internals.embedding_weight.dtype
    if how == "resample":
        made = {k: torch.cat(v)[None] for k, v in parts.items()}
    else:
        made = {k: (v / counts[:, None]).to(dtype)[None] for k, v in sums.items()}
    return Reference(how, per, made, lengths, len(lengths), sum(lengths))


class Replacing:
    """Every head and MLP of a text replaced, one at a time: checks, knows its cost, then runs."""

    def __init__(
        self, asked: Asked, how: How, reference: Reference | None = None,
        kinds: Sequence[Kind] = ("heads", "mlp"), draws: int = 8, seed: int = 0,
        control: Control = QUIET, parts: Sequence[Site] | None = None,
    ) -> None:  # fmt: skip
        if how not in HOWS:
            raise InputError("how", f"must be one of {', '.join(HOWS)}")
        if (reference is None) != (how in ("zero", "own_mean")):
            raise InputError("reference", f"is {'needed' if reference is None else 'unused'}")
        if reference is not None and reference.how != how:
            raise InputError("reference", f"was gathered for {reference.how}")
        if how == "own_mean" and asked.n < 2:
            raise InputError("how", "the mean over one position is that position: give a reference")
        if not 1 <= draws <= 200:
            raise InputError("draws", "must lie in 1..200")
        if reference is not None and reference.per == "position":
            longest = max(reference.lengths)
            if longest < asked.n:
                raise InputError(
                    "reference", f"its longest text has {longest} tokens, {asked.n} are replaced: "
                    "give longer texts or per='overall'",
                )  # fmt: skip
        self.asked, self.how, self.reference, self.control = asked, how, reference, control
        self.draws = draws if how == "resample" else 1
        self.random = np.random.default_rng(seed)
        self.sites = list(parts) if parts is not None else sites_of(asked.internals, kinds)
        self.stood, self.to, sources = self._stand()
        self.sources = [sources() for _ in range(self.draws)]
        cells = [Cell((s,), self.to, self.sources[0]) for s in self.sites]
        kept = sum(x.nbytes for x in self.stood.values())
        self.cost: Cost = cost(asked.n, cells, kept, self.draws)

    def run(self) -> list[Effect]:
        """One effect per part, in the order of the layers."""
        asked, whole = self.asked, self.asked.value()
        found = np.zeros((self.draws, len(self.sites)), dtype=np.float32)
        for d, source in enumerate(self.sources):
            cells = [Cell((s,), self.to, source) for s in self.sites]
            f = run_cells(
                asked.internals, asked.target, asked.embeds(), self.stood, cells, self.control,
                "ablation", d * len(cells), self.cost.runs,
            )  # fmt: skip
            found[d] = whole - f
        return [
            Effect(s.kind, s.layer, s.head, float(e.mean()), interval(e) if len(e) > 1 else None)
            for s, e in zip(self.sites, found.T, strict=True)
        ]

    def _stand(self) -> tuple[Stand, tuple[int, ...], Draw]:
        """What stands in, at which positions, and a function that draws its indices."""
        n, internals = self.asked.n, self.asked.internals
        all_of, later = tuple(range(n)), tuple(range(1, n)) if n > 1 else (0,)
        if self.reference is None:
            if self.how == "zero":
                zero = {
                    (s.kind, s.layer): torch.zeros(
                        1, 1, width(internals, s.kind), device=internals.device
                    )
                    for s in self.sites
                }
                return zero, all_of, lambda: (0,) * n
            kinds: list[Kind] = list(dict.fromkeys(s.kind for s in self.sites))
            _, own = record(internals, self.asked.embeds(), kinds)
            mean = {k: x.mean(1, keepdim=True) for k, x in own.items()}
            return mean, all_of, lambda: (0,) * n
        made = self.reference
        if made.how == "mean":
            if made.per == "position":
                return made.stood, all_of, lambda: all_of
            return made.stood, later, lambda: (0,) * len(later)
        first = np.concatenate([[0], np.cumsum(made.lengths)[:-1]])
        if made.per == "position":
            able = [t for t, length in enumerate(made.lengths) if length >= n]
            return made.stood, all_of, lambda: self._same_places(first, able)
        others = np.concatenate([
            np.arange(f + 1, f + length) for f, length in zip(first, made.lengths, strict=True)
        ])  # fmt: skip
        return (
            made.stood,
            later,
            lambda: tuple(int(i) for i in self.random.choice(others, len(later))),
        )

    def _same_places(self, first: NDArray[np.int64], able: list[int]) -> tuple[int, ...]:
        start = int(first[int(self.random.choice(able))])
        return tuple(range(start, start + self.asked.n))


def sites_of(internals: Internals, kinds: Sequence[Kind]) -> list[Site]:
    """Every head and every other part of ``kinds``, layer by layer."""
    made: list[Site] = []
    for part in internals.anatomy.layers:
        for kind in kinds:
            if kind == "heads" and part.out is not None:
                made += [Site("heads", part.index, h) for h in range(part.heads)]
            elif kind != "heads" and has(internals, Site(kind, part.index)):
                made.append(Site(kind, part.index))
    return made
