"""Does an attribution point at what matters? Deletion and insertion beside random orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.control import QUIET, Control
from tokenscope.explain.gradients import F32
from tokenscope.explain.target import Asked, batch_rows

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Curves:
    """f in nats against the share of tokens treated: ``fractions`` float32 (K,), from 0 to 1.

    ``random_deletion`` and ``random_insertion`` (R, K): the same with random orders. ``*_area``:
    area under the curve (trapezium). Faithful: deletion below random, insertion above.
    """

    fractions: F32
    deletion: F32
    insertion: F32
    random_deletion: F32
    random_insertion: F32

    @property
    def deletion_area(self) -> float:
        return float(np.trapezoid(self.deletion, self.fractions))

    @property
    def insertion_area(self) -> float:
        return float(np.trapezoid(self.insertion, self.fractions))

    @property
    def random_deletion_area(self) -> float:
        """Mean over the random orders."""
        return float(np.trapezoid(self.random_deletion, self.fractions, axis=1).mean())

    @property
    def random_insertion_area(self) -> float:
        """Mean over the random orders."""
        return float(np.trapezoid(self.random_insertion, self.fractions, axis=1).mean())

    @property
    def beats_random(self) -> bool:
        """Whether both curves lie on the right side of random, by area."""
        return (
            self.deletion_area < self.random_deletion_area
            and self.insertion_area > self.random_insertion_area
        )


def curves(
    asked: Asked, values: F32, points: int = 11, orders: int = 3, seed: int = 0,
    control: Control = QUIET,
) -> Curves:  # fmt: skip
    """Curves of an attribution ``values`` float32 (at,), most favourable token first.

    Costs ``2 * (1 + orders) * points`` forwards in batches.
    """
    n = asked.n
    counts = np.unique(np.linspace(0, n, points).round().astype(np.int64))
    random = np.random.default_rng(seed)
    ranked = [np.argsort(-values, kind="stable").astype(np.int64)]
    ranked += [random.permutation(n).astype(np.int64) for _ in range(orders)]
    masks = np.stack([_gone(order, counts) for order in ranked])  # (1 + R, K, n) bool
    both = np.concatenate([masks, ~masks])  # deletion, then insertion
    f = _run(asked, both.reshape(-1, n), control).reshape(both.shape[:2])
    fractions = (counts / max(n, 1)).astype(np.float32)
    half = len(ranked)
    return Curves(fractions, f[0], f[half], f[1:half], f[half + 1 :])


def _gone(order: I64, counts: I64) -> NDArray[np.bool_]:
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[None, :] < counts[:, None]


def _run(asked: Asked, masks: NDArray[np.bool_], control: Control) -> F32:
    """f (M,) with the masked tokens replaced by the mean embedding; equal masks run once."""
    embeds, mean = asked.embeds(), asked.internals.mean_embedding()
    unique, inverse = np.unique(masks, axis=0, return_inverse=True)
    out = np.zeros(len(unique), dtype=np.float32)
    size = batch_rows(asked.n)
    for start in range(0, len(unique), size):
        control.step(start, len(unique), "faithfulness")
        part = torch.as_tensor(unique[start : start + size], device=embeds.device)
        rows = torch.where(part[:, :, None], mean, embeds)
        out[start : start + len(rows)] = asked.values(rows).float().cpu().numpy()
    control.step(len(unique), len(unique), "faithfulness")
    return out[inverse.reshape(-1)]
