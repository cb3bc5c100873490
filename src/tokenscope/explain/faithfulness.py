"""Does an attribution point at what matters? Deletion and insertion beside random orders.

Two ways to take a token away: its embedding becomes the mean embedding, or attention may not read
it. The start token is left alone (attention parks its mass there). The verdict is a rank among
random orders, so that a random attribution earns it no more often than the rank allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.control import QUIET, Control
from tokenscope.explain.gradients import F32
from tokenscope.explain.target import Asked, batch_rows

I64 = NDArray[np.int64]
How = Literal["embedding", "mask"]

ORDERS = 20
# symmetric, so that a random order read backwards gives an insertion curve for nothing
FRACTIONS = (0.0, 0.2, 0.5, 0.8, 1.0)
# at least this share of the random orders must do worse, on both curves
SURE = 0.95  # measured: 3 to 4 % of random attributions pass (bench.faithfulness; 0.9: 5 to 7 %)


@dataclass(frozen=True, slots=True)
class Curves:
    """f in nats against the share of tokens treated: ``fractions`` float32 (K,), from 0 to 1.

    ``random_deletion`` and ``random_insertion`` (R, K): the same with random orders; ``others``:
    deletion and insertion of other orders by name. Faithful: deletion below random, insertion
    above.
    """

    how: How
    fractions: F32
    deletion: F32
    insertion: F32
    random_deletion: F32
    random_insertion: F32
    others: Mapping[str, tuple[F32, F32]] = field(default_factory=dict)

    @property
    def deletion_area(self) -> float:
        """Area under the curve (trapezium), lower is better."""
        return self._area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the curve, higher is better."""
        return self._area(self.insertion)

    @property
    def random_deletion_area(self) -> float:
        """Mean over the random orders."""
        return self._area(self.random_deletion.mean(0))

    @property
    def random_insertion_area(self) -> float:
        """Mean over the random orders."""
        return self._area(self.random_insertion.mean(0))

    @property
    def deletion_quantile(self) -> float:
        """Share of the random orders whose deletion curve lies higher, by area."""
        return float(np.mean([self._area(c) > self.deletion_area for c in self.random_deletion]))

    @property
    def insertion_quantile(self) -> float:
        """Share of the random orders whose insertion curve lies lower, by area."""
        return float(np.mean([self._area(c) < self.insertion_area for c in self.random_insertion]))

    @property
    def matters(self) -> bool:
        """Whether at least ``SURE`` of the random orders do worse on both curves."""
        return min(self.deletion_quantile, self.insertion_quantile) >= SURE

    @property
    def beats_random(self) -> bool:
        """Whether both curves lie on the right side of the mean of random orders, by area."""
        return (
            self.deletion_area < self.random_deletion_area
            and self.insertion_area > self.random_insertion_area
        )

    def beats(self, other: str) -> bool:
        """Whether both curves lie on the right side of another order's, by area."""
        deletion, insertion = self.others[other]
        return (
            self.deletion_area < self._area(deletion)
            and self.insertion_area > self._area(insertion)
        )  # fmt: skip

    def _area(self, curve: F32) -> float:
        return float(np.trapezoid(curve, self.fractions))


def curves(
    asked: Asked, values: F32, how: How = "embedding", others: Mapping[str, F32] | None = None,
    orders: int = ORDERS, seed: int = 0, control: Control = QUIET,
) -> Curves:  # fmt: skip
    """Curves of an attribution ``values`` float32 (at,), most favourable token first.

    ``others``: baselines by name, float32 (at,) each. Costs ``3 * (orders + 2 * (1 + others))``
    forwards in batches.
    """
    free = np.arange(first_free(asked, how), asked.n)
    counts = np.round(np.asarray(FRACTIONS) * len(free)).astype(np.int64)
    random = np.random.default_rng(seed)
    ranked = [_order(free, v) for v in (values, *(others or {}).values())]
    shuffled = [random.permutation(free) for _ in range(orders)]
    deleted = [_gone(asked.n, order, counts) for order in [*ranked, *shuffled]]
    kept = [_gone(asked.n, order[::-1], counts[::-1]) for order in ranked]
    masks = np.stack([*deleted, *kept])  # (2 (1 + B) + R, K, n) bool
    f = _run(asked, masks.reshape(-1, asked.n), how, control).reshape(masks.shape[:2])
    m = len(ranked)
    by_chance = f[m : m + orders]
    made = [(f[i], f[m + orders + i]) for i in range(m)]
    return Curves(
        how, (counts / max(len(free), 1)).astype(np.float32), *made[0], by_chance,
        by_chance[:, ::-1], dict(zip(others or {}, made[1:], strict=True)),
    )  # fmt: skip


def first_free(asked: Asked, how: How) -> int:
    """The first token that may be taken away. What nobody may read is a row without any key, so
    under the mask the first token always stays."""
    return max(asked.start, 1 if how == "mask" else 0)


def _order(free: I64, values: F32) -> I64:
    found: I64 = free[np.argsort(-values[free], kind="stable")]
    return found


def _gone(n: int, order: I64, counts: I64) -> NDArray[np.bool_]:
    """(K, n): which tokens are away when the first ``counts`` of an order are."""
    place = np.full(n, n, dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[None, :] < counts[:, None]


def _run(asked: Asked, masks: NDArray[np.bool_], how: How, control: Control) -> F32:
    """f (M,) with the masked tokens taken away; no mask runs twice in one explanation."""
    known = asked.treated(how)
    keys = [m.tobytes() for m in masks]
    fresh = {k: m for k, m in zip(keys, masks, strict=True) if k not in known}
    unique = np.stack(list(fresh.values())) if fresh else masks[:0]
    embeds, mean = asked.embeds(), asked.internals.mean_embedding()
    made: list[float] = []
    size = batch_rows(asked.n)
    for start in range(0, len(unique), size):
        control.step(start, len(unique), "faithfulness")
        part = torch.as_tensor(unique[start : start + size], device=embeds.device)
        with torch.no_grad():
            if how == "embedding":
                logits = asked.internals.logits(torch.where(part[:, :, None], mean, embeds))
            else:
                rows = embeds.expand(len(part), -1, -1)
                logits = asked.internals.logits(rows, visible=~part)
        made += asked.target.of(logits).float().tolist()
    control.step(len(unique), len(unique), "faithfulness")
    known.update(zip(fresh, made, strict=True))
    return np.asarray([known[k] for k in keys], dtype=np.float32)
