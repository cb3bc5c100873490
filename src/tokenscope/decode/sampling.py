"""How the next token is picked, and the distribution it was picked from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

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

    @property
    def changes(self) -> bool:
        """Whether the drawn-from distribution differs from the model's own."""
        return self.repetition_penalty != 1.0 or self.temperature > 0.0

    def to_json(self) -> dict[str, Any]:
        """The settings, for a trace's origin."""
        return {k: v for k, v in asdict(self).items() if k != "seed"}


def _check(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(name, "must be a finite number")
    if not low <= value <= high:
        raise InputError(name, f"must lie in {low:g}..{high:g}")


class Draw:
    """One stream of draws: the same seed gives the same picks, whatever else runs.

    The numbers come from numpy's PCG64, whose stream is fixed across machines and versions.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._random = np.random.Generator(np.random.PCG64(sampler.seed))

    def pick(self, logits: torch.Tensor, seen: Sequence[int]) -> tuple[int, float]:
        """(id, ln q(id)) from float32 (V,) logits; ``seen`` are all ids so far.

        ln q is that of the changed distribution; for plain greedy it is NaN (nothing changed).
        """
        s = self.sampler
        if not s.changes:
            return int(logits.argmax()), math.nan
        z = logits
        if s.repetition_penalty != 1.0 and seen:
            z = penalised(z, seen, s.repetition_penalty)
        if s.temperature == 0.0:
            best = int(z.argmax())
            return best, float(torch.log_softmax(z, dim=-1)[best])
        ids, q = self.truncated(z)
        at = int(np.searchsorted(np.cumsum(q), self._random.random() * q.sum(), side="right"))
        at = min(at, len(q) - 1)
        return int(ids[at]), float(np.log(q[at]))

    def truncated(self, logits: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Ids and float64 probabilities, most likely first, of what survives truncation."""
        s = self.sampler
        z = logits.to(torch.float64)
        z = (z - z.max()) / s.temperature  # shifted first: a tiny temperature must not overflow
        size = z.shape[0]
        keep = min(s.top_k, size) if s.top_k else size
        values, ids = z.topk(keep) if keep < size else z.sort(descending=True, stable=True)
        p = torch.softmax(values, dim=0).cpu().numpy()
        n = len(p)
        if s.top_p < 1.0:  # the smallest set that holds top_p (Holtzman 2020)
            n = min(n, int(np.searchsorted(np.cumsum(p), s.top_p, side="left")) + 1)
        if s.min_p > 0.0:
            n = min(n, max(1, int((p >= s.min_p * p[0]).sum())))
        q = p[:n] / p[:n].sum()
        return ids[:n].cpu().numpy(), q


def penalised(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """Logits with every seen token divided (if positive) or multiplied by it (Keskar 2019)."""
    at = torch.tensor(sorted(set(seen)), device=logits.device)
    out = logits.clone()
    values = out[at]
    out[at] = torch.where(values > 0, values / penalty, values * penalty)
    return out
