"""What each head does on a text: statistics, small pictures of all heads, search by pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.explain.attention import LayerLayout, layout
from tokenscope.explain.gradients import F32
from tokenscope.explain.memory import LIMIT, Estimate, check
from tokenscope.explain.repeats import SCORES
from tokenscope.registry import Registry

I32 = NDArray[np.int32]
STATISTICS = (
    "entropy", "distance", "sink", "unread", "previous", "itself", "identifier", "induction",
)  # fmt: skip
# with those on repeated random tokens, which need no text
ALL_STATISTICS = (*STATISTICS, *SCORES)


@dataclass(frozen=True, eq=False)
class Names:
    """Which tokens are parts of identifiers: ``name`` int32 (T,) a number per spelling, -1 for
    none; ``place`` int32 (T,) a number per occurrence, so that a name never counts as its own
    earlier occurrence."""

    name: I32
    place: I32


@dataclass(frozen=True, eq=False)
class Survey:
    """One forward over a text. Rows are ``layers`` (those with attention), columns heads.

    ``statistics[name]`` float32 (L, H), NaN where no query qualifies; ``counts[name]`` queries.
    ``pictures`` float32 (L, H, S, S): maximum over ``cell`` x ``cell`` weights, queries down.
    """

    layers: tuple[int, ...]
    layout: tuple[LayerLayout, ...]
    statistics: Mapping[str, F32]
    counts: Mapping[str, int]
    pictures: F32
    cell: int
    estimate: Estimate


def survey(
    internals: Internals, ids: Sequence[int], names: Names | None = None, size: int = 48,
    control: Control = QUIET, limit: int = LIMIT,
) -> Survey:  # fmt: skip
    """Statistics and pictures of every head, by one forward that reduces block by block.

    ``size``: pictures have at most that many cells a side. Raises CapacityError before allocation.
    """
    layers = internals.anatomy.attention_layers
    heads, n = internals.anatomy.heads, len(ids)
    if not 1 <= size <= 256:
        raise InputError("size", "must lie in 1..256")
    estimate = check(internals, n, lambda m: len(layers) * heads * min(m, size) ** 2 * 4, limit)
    cell = -(-n // size)
    cells = -(-n // cell)
    pictures = torch.zeros(len(layers), heads, cells, cells)
    sums = {s: torch.full((len(layers), heads), torch.nan) for s in STATISTICS}
    tally = _Tally(torch.as_tensor([int(i) for i in ids]), names)
    index = {layer: i for i, layer in enumerate(layers)}

    def watch(layer: int, first: int, weights: Tensor, _values: Tensor) -> None:
        i, block = index[layer], weights[0].cpu()  # (H, rows, T)
        h = block.shape[0]
        if first == 0:
            control.step(i, len(layers), "attention")
        _shrink(pictures[i, :h], block, first, cell)
        for name, value in tally.block(block, first).items():
            row = sums[name][i, :h]
            sums[name][i, :h] = torch.where(row.isnan(), value, row + value)

    internals.watch(ids, watch)
    control.step(len(layers), len(layers), "attention")
    for layer in layers:
        if not internals.anatomy.layers[layer].sinks:
            sums["unread"][index[layer]] = 0.0  # not the rounding of a softmax
    statistics = {
        s: (sums[s] / tally.count(s)).numpy().astype(np.float32) if tally.count(s) else
        np.full((len(layers), heads), np.nan, dtype=np.float32) for s in STATISTICS
    }  # fmt: skip
    counts = {s: tally.count(s) for s in STATISTICS}
    return Survey(layers, layout(internals), statistics, counts, pictures.numpy(), cell, estimate)


def _shrink(picture: Tensor, block: Tensor, first: int, cell: int) -> None:
    """Maximum of every cell of (H, rows, T) into (H, S, S), in place."""
    h, rows, n = block.shape
    cells = picture.shape[-1]
    wide = torch.nn.functional.pad(block, (0, cells * cell - n)).reshape(h, rows, cells, cell)
    wide = wide.amax(-1)  # (H, rows, S)
    at = torch.div(torch.arange(first, first + rows), cell, rounding_mode="floor")
    for c in range(int(at[0]), int(at[-1]) + 1):
        torch.maximum(picture[:, c], wide[:, at == c].amax(1), out=picture[:, c])


class _Tally:
    """The masks and sums behind the statistics (formulas: ``definitions``)."""

    def __init__(self, ids: Tensor, names: Names | None) -> None:
        self.ids = ids
        self.n = len(ids)
        none = torch.full((self.n,), -1)
        self.name = torch.as_tensor(names.name).long() if names is not None else none
        self.place = torch.as_tensor(names.place).long() if names is not None else none
        self.seen = {"identifier": 0, "induction": 0}
        self.first_layer_done: set[tuple[str, int]] = set()

    def count(self, name: str) -> int:
        """How many queries a statistic is a mean over."""
        return self.seen.get(
            name, self.n if name in ("entropy", "distance", "unread") else self.n - 1
        )

    def block(self, a: Tensor, first: int) -> dict[str, Tensor]:
        """Sums over the rows of ``a`` (H, rows, T), each (H,)."""
        rows = a.shape[1]
        q = torch.arange(first, first + rows)
        k = torch.arange(self.n)
        later = (q > 0).float()
        at = torch.arange(rows)
        previous = a[:, at, (q - 1).clamp(min=0)] * later
        out = {
            "entropy": torch.special.entr(a).sum((1, 2)),
            "distance": (a.sum(-1) * q - a @ k.float()).sum(1),
            "sink": (a[:, :, 0] * later).sum(1),
            "unread": (1 - a.sum(-1)).clamp(min=0).sum(1),
            "previous": previous.sum(1),
            "itself": (a[:, at, q] * later).sum(1),
        }
        named = self.name[q]
        same = (self.name[None] == named[:, None]) & (named[:, None] >= 0)
        same &= (self.place[None] != self.place[q][:, None]) & (k[None] < q[:, None])
        after = torch.zeros(rows, self.n, dtype=torch.bool)
        after[:, 1:] = self.ids[None, :-1] == self.ids[q][:, None]
        after &= k[None] <= q[:, None]  # the token after an earlier copy: at the latest this one
        for name, mask in (("identifier", same), ("induction", after)):
            if (name, first) not in self.first_layer_done:  # the same rows come once per layer
                self.first_layer_done.add((name, first))
                self.seen[name] += int(mask.any(1).sum())
            out[name] = (a * mask).sum((1, 2))
        return out


# --- search -----------------------------------------------------------------------------------
Pattern = Callable[[Survey], F32]
PATTERNS: Registry[Pattern] = Registry("pattern")


def _by(name: str) -> Pattern:
    return lambda seen: seen.statistics[name]


for _name in ALL_STATISTICS:
    PATTERNS.add(_name, _by(_name))
PATTERNS.add("local", lambda s: -s.statistics["distance"])
PATTERNS.add("focused", lambda s: -s.statistics["entropy"])


@dataclass(frozen=True, slots=True)
class Found:
    """A head and how well it fits what was searched."""

    layer: int
    head: int
    score: float


def find_heads(seen: Survey, pattern: str, top: int = 10) -> list[Found]:
    """The heads that show a pattern most. Raises UnknownName, which lists the patterns."""
    return ranked(PATTERNS.get(pattern)(seen), seen.layers, top)


def find_edge(
    internals: Internals, ids: Sequence[int], query: int, keys: Sequence[int], top: int = 10,
    control: Control = QUIET,
) -> list[Found]:  # fmt: skip
    """The heads whose query row ``query`` puts most mass on ``keys``. Raises InputError."""
    if not 0 <= query < len(ids):
        raise InputError("query", f"must lie in 0..{len(ids) - 1}")
    wanted = sorted({int(k) for k in keys})
    if not wanted or wanted[0] < 0 or wanted[-1] > query:
        raise InputError("keys", f"must lie in 0..{query}")
    layers = internals.anatomy.attention_layers
    mass = np.zeros((len(layers), internals.anatomy.heads), dtype=np.float32)

    def watch(layer: int, _first: int, weights: Tensor, _values: Tensor) -> None:
        control.step(layers.index(layer), len(layers), "attention")
        row = weights[0, :, 0, wanted].sum(-1)
        mass[layers.index(layer), : len(row)] = row.cpu().numpy()

    internals.watch(list(ids)[: query + 1], watch, (query, query + 1))
    return ranked(mass, layers, top)


def ranked(values: F32, layers: Sequence[int], top: int) -> list[Found]:
    """The heads of the largest values (L, H); NaN is none."""
    flat = np.nan_to_num(values, nan=-np.inf).reshape(-1)
    order = np.argsort(-flat, kind="stable")[:top]
    heads = values.shape[1]
    return [
        Found(layers[int(i) // heads], int(i) % heads, float(flat[i]))
        for i in order
        if np.isfinite(flat[i])
    ]
