"""The two recipes: what is trained, on how much, at which rate."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig

from training.corpus import PACKAGE_CAP
from training.network import make_config


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a run."""

    hidden: int
    layers: int
    inner: int
    heads: int
    kv_heads: int
    tokens: int  # planned in all
    decay: float  # share of the plan over which the rate falls to zero
    batch_tokens: int
    lengths: tuple[tuple[float, int], ...]  # (from this share of the plan, row length)
    muon_lr: float
    adam_lr: float
    warmup: float = 0.02
    cap: int | None = PACKAGE_CAP
    seed: int = 0
    begun: float = 0.0  # share of the plan that published weights had seen before this run

    def config(self) -> LlamaConfig:
        """The model's configuration."""
        return make_config(self.hidden, self.layers, self.inner, self.heads, self.kv_heads)

    def rate(self, done: float) -> float:
        """Learning-rate factor when a share `done` of the plan is seen: up, flat, down."""
        up = (done - self.begun + 1e-3) / self.warmup
        return max(0.0, min(1.0, up, (1.0 - done) / self.decay))

    def length(self, done: float) -> int:
        """Row length at a share of the plan."""
        return [length for start, length in self.lengths if done >= start][-1]


RECIPES = {
    "cpu": Recipe(
        hidden=256, layers=5, inner=640, heads=4, kv_heads=2,
        tokens=7_500_000, decay=0.65, batch_tokens=8192,
        lengths=((0.0, 512), (0.3, 1024), (0.88, 2048)),
        muon_lr=0.02, adam_lr=0.004,
    ),
    "cuda": Recipe(
        hidden=512, layers=7, inner=1216, heads=8, kv_heads=4,
        tokens=400_000_000, decay=0.4, batch_tokens=65_536,
        lengths=((0.0, 1024), (0.8, 2048)),
        muon_lr=0.02, adam_lr=0.003, cap=None,
    ),
}  # fmt: skip
