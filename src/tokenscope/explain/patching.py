"""Activation patching between two prompts: which part, at which token, carries the difference.

A run of one prompt (the base) gets, at one place, what stood there in a run of the other (the
source). Denoising: base corrupt, source clean; what restores the answer is enough for it.
Noising: base clean, source corrupt; what breaks it is needed for it (Heimersheim & Nanda 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.backends.hf.sites import KINDS, Kind, Site, has, record
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.explain.cells import Cell, Cost, cost, recorded_bytes, run_cells, within
from tokenscope.explain.gradients import F32
from tokenscope.explain.memory import LIMIT
from tokenscope.explain.target import Target
from tokenscope.registry import Registry

Direction = Literal["denoising", "noising"]
# below this difference of the two prompts, in nats, a share of it is a share of rounding
LEAST_GAP = 0.1
PARTS: Registry[Kind] = Registry("part")
for _kind in KINDS:
    PARTS.add(_kind, _kind)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sequences of ids and the positions that belong together: (base, source) pairs."""

    base: tuple[int, ...]
    source: tuple[int, ...]
    places: tuple[tuple[int, int], ...]

    @property
    def same(self) -> int:
        """How many tokens both begin with: there nothing can differ."""
        both = zip(self.base, self.source, strict=False)
        return next(
            (i for i, (a, b) in enumerate(both) if a != b), min(map(len, (self.base, self.source)))
        )

    @property
    def differing(self) -> tuple[tuple[int, int], ...]:
        """The pairs at which something can differ."""
        return tuple(p for p in self.places if not (p[0] == p[1] < self.same))


@dataclass(frozen=True, eq=False)
class PatchMap:
    """f in nats of the base with one place taken from the source.

    ``values[part]``: float32 (L, T) over layers and base positions, NaN where a position has no
    partner or a layer no such part; for ``heads`` (L, H), all positions of a head at once.
    ``base`` and ``source``: f of the two runs as they are.
    """

    target: Target
    direction: Direction
    pair: Pair
    base: float
    source: float
    values: Mapping[str, F32]
    cost: Cost

    @property
    def clean(self) -> float:
        """f of the clean prompt."""
        return self.source if self.direction == "denoising" else self.base

    @property
    def corrupt(self) -> float:
        """f of the corrupt prompt."""
        return self.base if self.direction == "denoising" else self.source

    def effect(self, part: str) -> F32:
        """(patched - base) / (source - base): 0 nothing moved, 1 all of the difference.

        Denoising: the share restored (Wang 2022). Noising: the share broken. Raises UnknownName.
        """
        PARTS.get(part)
        if part not in self.values:
            raise InputError("part", f"was not asked for; asked: {', '.join(self.values)}")
        return ((self.values[part] - self.base) / (self.source - self.base)).astype(np.float32)


def align(base: Sequence[int], source: Sequence[int], given: object = None) -> Pair:
    """Which positions belong together.

    ``given``: None (equal lengths, one to one), ``"ends"`` (the common beginning and the common
    end; what lies between has no partner) or pairs (base, source). Raises InputError.
    """
    b, s = tuple(int(i) for i in base), tuple(int(i) for i in source)
    if given is None:
        if len(b) != len(s):
            raise InputError(
                "align", f"the prompts have {len(b)} and {len(s)} tokens: make them equally long, "
                "or align='ends', or give pairs",
            )  # fmt: skip
        return Pair(b, s, tuple((i, i) for i in range(len(b))))
    if given == "ends":
        return Pair(b, s, _ends(b, s))
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError("align", "must be 'ends' or pairs of positions")
    places = []
    for one in given:
        if not isinstance(one, Sequence) or len(one) != 2:
            raise InputError("align", "must be 'ends' or pairs of positions")
        i, j = int(one[0]), int(one[1])
        if not (0 <= i < len(b) and 0 <= j < len(s)):
            raise InputError("align", f"a pair lies outside {len(b)} and {len(s)} tokens")
        places.append((i, j))
    if not places or len({i for i, _ in places}) != len(places):
        raise InputError("align", "each position may stand in one pair, and one pair is needed")
    return Pair(b, s, tuple(sorted(places)))


def _ends(b: tuple[int, ...], s: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    short = min(len(b), len(s))
    head = next((i for i in range(short) if b[i] != s[i]), short)
    tail = next((i for i in range(short - head) if b[-1 - i] != s[-1 - i]), short - head)
    first = [(i, i) for i in range(head)]
    return (*first, *((len(b) - i, len(s) - i) for i in range(tail, 0, -1)))


class Patching:
    """One job: checks when it is made, knows its cost, then runs. Raises InputError,
    CapacityError."""

    def __init__(
        self, internals: Internals, pair: Pair, target: Target, direction: Direction = "denoising",
        parts: Sequence[str] = KINDS, control: Control = QUIET, limit: int = LIMIT,
    ) -> None:  # fmt: skip
        self.parts = [PARTS.get(p) for p in dict.fromkeys(parts)]
        if not self.parts:
            raise InputError("parts", "at least one is needed")
        if not pair.differing:
            raise InputError("corrupt", "is the same as the clean prompt: nothing to patch")
        self.internals, self.pair, self.target = internals, pair, target
        self.direction, self.control = direction, control
        self.cells = {p: cells_of(internals, pair, p) for p in self.parts}
        kept = recorded_bytes(internals, len(pair.source), self.parts)
        within(kept, len(pair.source), limit)
        every = [c for cells in self.cells.values() for c in cells]
        self.cost = cost(len(pair.base), every, kept)

    def run(self) -> PatchMap:
        """Raises InputError where the two prompts differ too little, before the runs are paid."""
        internals, target = self.internals, self.target
        source_embeds, base_embeds = (
            internals.embed(x) for x in (self.pair.source, self.pair.base)
        )
        logits, stood = record(internals, source_embeds, self.parts)
        source, base = float(target.of(logits)[0]), self._plain(base_embeds)
        if not abs(source - base) >= LEAST_GAP:
            raise InputError(
                "corrupt", f"f is {source:.3f} and {base:.3f} nats for the two prompts: they "
                f"differ by less than {LEAST_GAP} nats, too little to take shares of",
            )  # fmt: skip
        values: dict[str, F32] = {}
        done = 0
        for part, cells in self.cells.items():
            f = run_cells(
                internals, target, base_embeds, stood, cells, self.control, "patching", done,
                self.cost.runs,
            )  # fmt: skip
            values[part] = laid_out(internals, self.pair, part, cells, f, base)
            done += len(cells)
        return PatchMap(target, self.direction, self.pair, base, source, values, self.cost)

    def _plain(self, embeds: Tensor) -> float:
        logits, _ = record(self.internals, embeds, ())
        return float(self.target.of(logits)[0])


def cells_of(internals: Internals, pair: Pair, part: Kind) -> list[Cell]:
    """The runs of one part: a cell per layer and position, or per head with all positions."""
    layers = internals.anatomy.layers
    if part == "heads":
        to, source = zip(*pair.differing, strict=True)
        return [
            Cell((Site("heads", p.index, h),), to, source)
            for p in layers if p.out is not None for h in range(p.heads)
        ]  # fmt: skip
    return [
        Cell((Site(part, p.index),), (i,), (j,))
        for p in layers if has(internals, Site(part, p.index)) for i, j in pair.differing
    ]  # fmt: skip


def laid_out(
    internals: Internals, pair: Pair, part: Kind, cells: Sequence[Cell], f: F32, base: float
) -> F32:
    """The f of cells as (L, T) or (L, H); f(base) where both prompts are the same."""
    rows = len(internals.anatomy.layers)
    if part == "heads":
        out = np.full((rows, internals.anatomy.heads), np.nan, dtype=np.float32)
        for cell, value in zip(cells, f, strict=True):
            out[cell.sites[0].layer, cell.sites[0].head] = value
        return out
    out = np.full((rows, len(pair.base)), np.nan, dtype=np.float32)
    there = [p.index for p in internals.anatomy.layers if has(internals, Site(part, p.index))]
    for i, _ in pair.places:
        out[there, i] = base
    for cell, value in zip(cells, f, strict=True):
        out[cell.sites[0].layer, cell.to[0]] = value
    return out
