"""Runs with values from another run put in: many cells in batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.backends.hf.sites import Kind, Recorded, Site, Write, span, width, writing
from tokenscope.control import Control
from tokenscope.errors import CapacityError
from tokenscope.explain.gradients import F32
from tokenscope.explain.memory import LIMIT
from tokenscope.explain.perturb import cached_rows
from tokenscope.explain.target import Target, batch_rows

# of the largest logit: float32 gives 1e-6, a cache that a family uses otherwise gives far more
CACHE_ERROR = 1e-2


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: at every site, positions ``to`` of the base get what stood at ``source``."""

    sites: tuple[Site, ...]
    to: tuple[int, ...]
    source: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job takes: ``runs`` forwards, ``tokens`` positions in them all, ``bytes`` kept."""

    runs: int
    tokens: int
    bytes: int

    def __str__(self) -> str:
        kept = f"{self.bytes / 2**20:,.0f} MiB kept"
        return f"{self.runs:,} runs, {self.tokens:,} token positions, {kept}"


def recorded_bytes(internals: Internals, length: int, kinds: Sequence[Kind]) -> int:
    """What :func:`tokenscope.backends.hf.sites.record` of ``length`` tokens keeps."""
    per = sum(width(internals, k) for k in kinds) * internals.embedding_weight.element_size()
    return length * len(internals.anatomy.layers) * per


def within(needed: int, length: int, limit: int = LIMIT) -> None:
    """Raises CapacityError where ``needed`` bytes for ``length`` tokens pass the limit."""
    if needed > limit:
        fits = length * limit // max(1, needed)
        raise CapacityError(
            f"keeping the parts of {length} tokens needs {needed / 2**20:,.0f} MiB, "
            f"{limit / 2**20:,.0f} MiB are allowed; about {fits} tokens would fit", fits,
        )  # fmt: skip


def cost(length: int, cells: Sequence[Cell], kept: int, draws: int = 1) -> Cost:
    """Upper estimate: a cell runs from its first position to the end."""
    tokens = sum(length - min(min(c.to), length - 1) for c in cells)
    return Cost(draws * len(cells), draws * tokens, kept)


def run_cells(
    internals: Internals, target: Target, base: Tensor, source: Recorded, cells: Sequence[Cell],
    control: Control, what: str, done: int = 0, total: int | None = None,
) -> F32:  # fmt: skip
    """f (C,) of the base embeddings (1, T, d) with each cell put in, in nats.

    Cells are run in the order of their first position, so that a batch shares the cache of all
    that stands before. ``done`` and ``total`` place this call in a longer job.
    """
    length = base.shape[1]
    out = np.zeros(len(cells), dtype=np.float32)
    order = sorted(range(len(cells)), key=lambda c: min(cells[c].to))
    cache = _believed(internals, base)
    whole = len(cells) if total is None else total
    ran = 0
    while ran < len(order):
        control.step(done + ran, whole, what)
        start = min(min(cells[order[ran]].to), length - 1) if cache is not None else 0
        size = min(batch_rows(length - start), cached_rows(cache, start) if start else 1 << 30)
        part = order[ran : ran + size]
        writes = [
            w
            for row, c in enumerate(part)
            for w in _writes(internals, cells[c], row, start, source)
        ]
        hooks = writing(internals, writes)
        rows = base[:, start:].expand(len(part), -1, -1)
        with torch.no_grad():
            if start:
                logits = internals.resume(cache, start, rows, hooks=hooks)
            else:
                logits = internals.logits(rows, hooks=hooks)
        out[part] = target.of(logits).float().cpu().numpy()
        ran += len(part)
    control.step(done + ran, whole, what)
    return out


def _believed(internals: Internals, base: Tensor) -> Any:
    """A cache of the base, or None where a run resumed from it is not the run itself."""
    cache, last = internals.prefix(base), base.shape[1] - 1
    if cache is None or last == 0:
        return None
    with torch.no_grad():
        whole = internals.logits(base)
    resumed = internals.resume(cache, last, base[:, last:])
    scale = float(whole.abs().max())
    return cache if float((resumed - whole).abs().max()) <= CACHE_ERROR * scale else None


def _writes(
    internals: Internals, cell: Cell, row: int, start: int, source: Recorded
) -> list[Write]:
    to = torch.as_tensor(cell.to, device=internals.device) - start
    made = []
    for site in cell.sites:
        stood = source[site.kind, site.layer][0, list(cell.source)]
        if site.kind == "heads":
            stood = stood[:, span(internals.anatomy.layers[site.layer], site.head)]
        made.append(Write(row, site, to, stood))
    return made
