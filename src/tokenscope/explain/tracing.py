"""Causal tracing: blur a subject's embeddings with noise, then restore one place at a time.

Meng 2022 (arXiv 2202.05262): noise of three standard deviations of the embeddings on the tokens
of the subject, several draws; what one clean value gives back is its indirect effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tokenscope.backends.hf.internals import Internals
from tokenscope.backends.hf.sites import Kind, Site, has, record
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.explain.cells import Cell, Cost, cost, recorded_bytes, run_cells, within
from tokenscope.explain.gradients import F32
from tokenscope.explain.intervals import F64, ratios
from tokenscope.explain.memory import LIMIT
from tokenscope.explain.patching import LEAST_GAP, PARTS
from tokenscope.explain.target import Target

DRAWS = 10
NOISE = 3.0


@dataclass(frozen=True, eq=False)
class CausalTrace:
    """f in nats: ``clean``; ``corrupt`` float32 (D,) of each draw; ``values[part]`` (D, L, T).

    A position before the subject holds the draw's own f: nothing differs there.
    """

    target: Target
    ids: tuple[int, ...]
    subject: tuple[int, ...]
    noise: float
    sd: float
    seed: int
    clean: float
    corrupt: F32
    values: Mapping[str, F32]
    cost: Cost

    def effect(self, part: str) -> tuple[F64, F64, F64]:
        """(share, low, high), each (L, T): mean of (restored - corrupt) over the mean of
        (clean - corrupt), with a 95 % bootstrap interval over the draws."""
        PARTS.get(part)
        if part not in self.values:
            raise InputError("part", f"was not asked for; asked: {', '.join(self.values)}")
        v = self.values[part].astype(np.float64)
        moved = v - self.corrupt[:, None, None]
        shape = v.shape[1:]
        a, low, high = ratios(
            moved.reshape(len(v), -1), self.clean - self.corrupt.astype(np.float64)
        )
        return a.reshape(shape), low.reshape(shape), high.reshape(shape)


class Tracing:
    """One job; as :class:`~tokenscope.explain.patching.Patching`.

    ``subject``: the token positions that are blurred. ``window``: so many layers of attention or
    MLP are restored together, centred on the one named (Meng used 10); 1 restores one.
    """

    def __init__(
        self, internals: Internals, ids: Sequence[int], target: Target, subject: Sequence[int],
        parts: Sequence[str] = ("residual", "attention", "mlp"), draws: int = DRAWS,
        noise: float = NOISE, window: int = 1, seed: int = 0, control: Control = QUIET,
        limit: int = LIMIT,
    ) -> None:  # fmt: skip
        self.ids = tuple(int(i) for i in ids)
        self.subject = tuple(sorted({int(i) for i in subject}))
        if not self.subject or self.subject[0] < 0 or self.subject[-1] >= len(self.ids):
            raise InputError("subject", f"must hold token positions in 0..{len(self.ids) - 1}")
        if not 1 <= draws <= 100:
            raise InputError("draws", "must lie in 1..100")
        if not noise > 0:
            raise InputError("noise", "must be positive")
        if window < 1:
            raise InputError("window", "must be at least 1")
        self.parts = [PARTS.get(p) for p in dict.fromkeys(parts)]
        if not self.parts or "heads" in self.parts:
            raise InputError("parts", "must be some of residual, attention, mlp")
        self.internals, self.target, self.control = internals, target, control
        self.draws, self.noise, self.window, self.seed = draws, noise, window, seed
        self.cells = {p: self._cells(p) for p in self.parts}
        kept = recorded_bytes(internals, len(self.ids), self.parts)
        within(kept, len(self.ids), limit)
        every = [c for cells in self.cells.values() for c in cells]
        self.cost = cost(len(self.ids), every, kept, draws)

    def _cells(self, part: Kind) -> list[Cell]:
        made = []
        count = len(self.internals.anatomy.layers)
        for layer in range(count):
            low = layer - (self.window - 1) // 2
            near = range(max(0, low), min(count, low + self.window))
            near = range(layer, layer + 1) if part == "residual" else near
            sites = tuple(Site(part, i) for i in near if has(self.internals, Site(part, i)))
            if sites and has(self.internals, Site(part, layer)):
                made += [Cell(sites, (i,), (i,)) for i in range(self.subject[0], len(self.ids))]
        return made

    def run(self) -> CausalTrace:
        """Raises InputError where the noise changes too little to take shares of."""
        internals, target = self.internals, self.target
        embeds = internals.embed(self.ids)
        sd = embedding_sd(internals)
        logits, stood = record(internals, embeds, self.parts)
        clean = float(target.of(logits)[0])
        blurred = []
        for d in range(self.draws):
            made = torch.Generator().manual_seed(self.seed * 1000 + d)
            shape = (len(self.subject), internals.hidden)
            noise = torch.randn(shape, generator=made, dtype=torch.float64) * (self.noise * sd)
            row = embeds.clone()
            row[0, list(self.subject)] += noise.to(row)
            blurred.append(row)
        corrupt = np.asarray(
            [float(target.of(record(internals, b, ())[0])[0]) for b in blurred], np.float32
        )
        gap = clean - float(corrupt.mean())
        if not abs(gap) >= LEAST_GAP:
            raise InputError(
                "subject", f"noise on it moves f by {gap:.3f} nats on average, less than "
                f"{LEAST_GAP}: too little to take shares of",
            )  # fmt: skip
        values: dict[str, F32] = {}
        done = 0
        for part, cells in self.cells.items():
            made_of = np.full(
                (self.draws, len(internals.anatomy.layers), len(self.ids)), np.nan, np.float32
            )
            layers = self._layers(part)
            made_of[:, layers, : self.subject[0]] = corrupt[:, None, None]
            for d, row in enumerate(blurred):
                f = run_cells(
                    internals, target, row, stood, cells, self.control, "causal tracing", done,
                    self.cost.runs,
                )  # fmt: skip
                done += len(cells)
                made_of[d, layers, self.subject[0] :] = f.reshape(len(layers), -1)
            values[part] = made_of
        return CausalTrace(
            target, self.ids, self.subject, self.noise, sd, self.seed, clean, corrupt, values,
            self.cost,
        )  # fmt: skip

    def _layers(self, part: Kind) -> list[int]:
        return [
            p.index for p in self.internals.anatomy.layers
            if has(self.internals, Site(part, p.index))
        ]  # fmt: skip


def embedding_sd(internals: Internals) -> float:
    """Standard deviation over all entries of the embedding as the first layer takes it."""
    size = int(internals.embedding_weight.shape[0])
    total = square = 0.0
    with torch.no_grad():
        for start in range(0, size, 8192):
            part = torch.arange(start, min(start + 8192, size), device=internals.device)
            rows = internals.anatomy.embedding(part).double()
            total += float(rows.sum())
            square += float(rows.pow(2).sum())
    count = size * internals.hidden
    return float(np.sqrt(max(0.0, square / count - (total / count) ** 2)))
