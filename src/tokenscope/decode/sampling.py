"""How the next token is picked, and the distribution it was picked from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from tokenscope.decode.appliers import Processor
from tokenscope.decode.draws import draws
from tokenscope.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampler:
    """Order as in the field's libraries: penalty, temperature, top-k, top-p, min-p, draw.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and
    ``repetition_penalty`` 1 are off. Raises InputError for values that make no sense.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, 1e4)
        _check("top_p", self.top_p, 0.0, 1.0)
        _check("min_p", self.min_p, 0.0, 1.0)
        _check("repetition_penalty", self.repetition_penalty, 0.0, 1e4)
        if self.top_p == 0.0:
            raise InputError("top_p", "must be more than 0")
        if self.repetition_penalty == 0.0:
            raise InputError("repetition_penalty", "must be more than 0")
        for name in ("top_k", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(name, "must be a whole number, 0 or more")
        if self.seed >> 128:
            raise InputError("seed", "must be less than 2**128")

    @property
    def changes(self) -> bool:
        """Whether the drawn-from distribution differs from the model's own."""
        return self.repetition_penalty != 1.0 or self.temperature > 0.0

    def to_json(self) -> dict[str, Any]:
        """The settings, for a trace's origin."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "seed"}


def _check(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(name, "must be a finite number")
    if not low <= value <= high:
        raise InputError(name, f"must lie in {low:g}..{high:g}")


def pick(
    sampler: Sampler,
    logits: torch.Tensor,
    seen: Sequence[int],
    position: int,
    edited: bool = False,
) -> tuple[int, float]:
    """(id, ln q(id)) of the token at ``position`` from float32 (V,) logits; ``seen``: all ids.

    ``edited``: edits have changed the logits. ln q is that of the changed distribution; for plain
    greedy it is NaN (nothing changed). The draw is that of ``decode.draws``.
    """
    z = logits
    if sampler.repetition_penalty != 1.0 and len(seen):
        z = penalised(z, seen, sampler.repetition_penalty)
    (token,), (logq,) = draws([sampler], [position], z[None])
    if sampler.temperature == 0.0 and (sampler.changes or edited):
        logq = float(torch.log_softmax(z, dim=-1)[token])
    return token, logq


def after_edits(
    logits: torch.Tensor, seen: Sequence[int], processors: Sequence[Processor]
) -> torch.Tensor | None:
    """The logits as masks and biases leave them; None when they leave no token."""
    z = logits
    for process in processors:
        z = process(z, seen)
    return z if not processors or bool((z > -torch.inf).any()) else None


def penalised(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """Logits with every seen token divided (if positive) or multiplied by it (Keskar 2019)."""
    at = torch.tensor(sorted(set(seen)), device=logits.device)
    out = logits.clone()
    values = out[at]
    out[at] = torch.where(values > 0, values / penalty, values * penalty)
    return out
