"""Path effects: what one head tells another directly, everything else held still.

Path patching (Wang 2022, arXiv 2211.00593; Goldowsky-Dill 2023, arXiv 2304.05969), head to head:
1. run with the sender's output replaced and every other attention and MLP frozen at what it did,
   so that only the straight way through the residual stream changes; keep what each later head
   then writes;
2. run the text again with just the receiver's output set to that, and let all the rest follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.backends.hf.sites import Kind, Site, Write, record, span
from tokenscope.control import QUIET, Control
from tokenscope.errors import AbilityError, InputError
from tokenscope.explain.cells import Cell, recorded_bytes, run_cells, within
from tokenscope.explain.memory import LIMIT
from tokenscope.explain.references import Effect, How, Reference, Replacing
from tokenscope.explain.target import Asked

Head = tuple[int, int]
MOST_HEADS = 40


@dataclass(frozen=True, slots=True)
class PathEffect:
    """``effect``: f(x) - f(x with the receiver as it is without the sender), nats. ``moved``: by
    how much the receiver's output at the last position changes, as a share of its size."""

    sender: Head
    receiver: Head
    effect: float
    moved: float


@dataclass(frozen=True, eq=False)
class PathEffects:
    """Edges, largest first, and the total effect of every head that takes part."""

    edges: tuple[PathEffect, ...]
    totals: tuple[Effect, ...]
    how: How
    value: float


class Paths:
    """Edges between ``heads`` (layer, head), by default the ``top`` of largest total effect.

    ``how`` and ``reference``: what replaces a sender, as for
    :class:`~tokenscope.explain.references.Replacing`. Raises InputError, AbilityError,
    CapacityError.
    """

    def __init__(
        self, asked: Asked, how: How = "own_mean", reference: Reference | None = None,
        heads: Sequence[Head] | None = None, top: int = 6, control: Control = QUIET,
        limit: int = LIMIT,
    ) -> None:  # fmt: skip
        internals = asked.internals
        if not internals.all_attention:
            raise AbilityError("path effects need attention in every layer")
        if how == "resample":
            raise InputError("how", "must be zero, own_mean or mean: a path needs one replacement")
        if not 2 <= top <= MOST_HEADS:
            raise InputError("top", f"must lie in 2..{MOST_HEADS}")
        if heads is not None and not 2 <= len(set(heads)) <= MOST_HEADS:
            raise InputError("heads", f"must name 2 to {MOST_HEADS} heads")
        for layer, head in heads or ():
            if not 0 <= layer < len(internals.anatomy.layers) or not (
                0 <= head < internals.anatomy.layers[layer].heads
            ):
                raise InputError("heads", f"there is no head {layer}.{head}")
        sites = [Site("heads", *h) for h in dict.fromkeys(heads)] if heads is not None else None
        self.asked, self.how, self.control = asked, how, control
        self.top = top if heads is None else MOST_HEADS
        self.totals = Replacing(asked, how, reference, ("heads",), control=control, parts=sites)
        within(
            recorded_bytes(internals, 3 * asked.n, ("attention", "mlp", "heads")), asked.n, limit
        )

    def run(self) -> PathEffects:
        """Total effects, then two runs per edge (the first is shared by a sender's edges)."""
        asked, internals = self.asked, self.asked.internals
        totals = sorted(self.totals.run(), key=lambda e: -abs(e.effect))[: self.top]
        chosen = sorted((e.layer, e.head) for e in totals)
        embeds = asked.embeds()
        logits, clean = record(internals, embeds, ("attention", "mlp", "heads"))
        value = float(asked.target.of(logits)[0])
        edges: list[PathEffect] = []
        for n, sender in enumerate(chosen):
            self.control.step(n, len(chosen), "paths")
            later = [r for r in chosen if r[0] > sender[0]]
            if not later:
                continue
            heard = self._heard(sender, clean, embeds)
            cells = [Cell((Site("heads", *r),), all_of(asked.n), all_of(asked.n)) for r in later]
            f = run_cells(internals, asked.target, embeds, heard, cells, QUIET, "paths")
            for r, after in zip(later, f, strict=True):
                moved = _moved(internals, r, clean, heard)
                edges.append(PathEffect(sender, r, value - float(after), moved))
        self.control.step(len(chosen), len(chosen), "paths")
        edges.sort(key=lambda e: -abs(e.effect))
        return PathEffects(tuple(edges), tuple(totals), self.how, value)

    def _heard(
        self, sender: Head, clean: dict[tuple[Kind, int], Tensor], embeds: Tensor
    ) -> dict[tuple[Kind, int], Tensor]:
        """What every head writes when only the sender's own line to it is changed."""
        internals = self.asked.internals
        every = torch.arange(self.asked.n, device=internals.device)
        frozen = [
            Write(0, Site(kind, layer), every, x[0])
            for (kind, layer), x in clean.items()
            if kind == "mlp" or (kind == "attention" and layer != sender[0])
        ]  # fmt: skip
        replaced = self.totals
        at = torch.as_tensor(replaced.to, device=internals.device)
        stood = replaced.stood["heads", sender[0]][0, list(replaced.sources[0])]
        stood = stood[:, span(internals.anatomy.layers[sender[0]], sender[1])]
        frozen.append(Write(0, Site("heads", *sender), at, stood))
        return record(internals, embeds, ("heads",), frozen)[1]


def all_of(n: int) -> tuple[int, ...]:
    """Every position of n."""
    return tuple(range(n))


def _moved(
    internals: Internals, head: Head, clean: dict[tuple[Kind, int], Tensor],
    heard: dict[tuple[Kind, int], Tensor],
) -> float:  # fmt: skip
    where = span(internals.anatomy.layers[head[0]], head[1])
    was, now = (x["heads", head[0]][0, -1, where].double() for x in (clean, heard))
    return float((now - was).norm() / was.norm().clamp(min=1e-12))
