"""How the next token is picked, and the distribution it was picked from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.decode.appliers import Processor
from tokenscope.errors import InputError

F64 = NDArray[np.float64]
SORTABLE = 4096  # of more tokens, those that top-p certainly drops are not sorted


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
        return {k: v for k, v in asdict(self).items() if k != "seed"}


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
    greedy it is NaN (nothing changed). The
    draw is the Gumbel-max trick (Gumbel 1954; Maddison 2014): the largest of ln q(v) + g_v, where
    the noise g depends on nothing but (seed, position, v). So a draw does not depend on what else
    runs, and two branches with the same seed share their luck: where their distributions agree
    they draw the same token (coupled counterfactuals; Oberst & Sontag 2019).
    """
    z = logits
    if sampler.repetition_penalty != 1.0 and len(seen):
        z = penalised(z, seen, sampler.repetition_penalty)
    if sampler.temperature == 0.0:
        best = int(z.argmax())
        if not sampler.changes and not edited:
            return best, math.nan
        return best, float(torch.log_softmax(z, dim=-1)[best])
    ids, logq = truncated(sampler, z)
    noise = gumbel(sampler.seed, position, z.shape[0])
    at = int(np.argmax(logq + (noise if ids is None else noise[ids])))
    return int(at if ids is None else ids[at]), float(logq[at])


def after_edits(
    logits: torch.Tensor, seen: Sequence[int], processors: Sequence[Processor]
) -> torch.Tensor | None:
    """The logits as masks and biases leave them; None when they leave no token."""
    z = logits
    for process in processors:
        z = process(z, seen)
    return z if not processors or bool((z > -torch.inf).any()) else None


def gumbel(seed: int, position: int, size: int) -> F64:
    """float64 (size,) standard Gumbel noise that (seed, position) fix, on every machine.

    Counter-based: Philox4x64-10 (Salmon 2011) with the seed as key and the position in the
    counter's second word; a raw word w gives the uniform (floor(w / 2^11) + 1/2) / 2^53.
    """
    raw = np.random.Philox(key=seed, counter=position << 64).random_raw(size)
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: F64 = -np.log(-np.log(uniform))
    return noise


def truncated(sampler: Sampler, logits: torch.Tensor) -> tuple[NDArray[np.int64] | None, F64]:
    """(ids, ln q float64) of what survives truncation; ids None: all tokens, in order.

    The same tokens survive as in transformers: top-k keeps what ties with the k-th; top-p drops,
    from the least likely on (of equals the later id first), what sums to at most 1 - top_p
    (Holtzman 2020).
    """
    z = logits.to(torch.float64)
    z = (z - z.max()) / sampler.temperature  # shifted first: a tiny temperature must not overflow
    ids: torch.Tensor | None = None
    if sampler.top_k and sampler.top_k < z.shape[0]:
        ids = torch.nonzero(z >= z.topk(sampler.top_k).values[-1])[:, 0]
        z = z[ids]
    if sampler.top_p < 1.0:
        kept = nucleus(z, sampler.top_p)
        z, ids = z[kept], kept if ids is None else ids[kept]
    if sampler.min_p > 0.0:
        p = torch.softmax(z, dim=0)
        kept = torch.nonzero(p >= sampler.min_p * p.max())[:, 0]
        z, ids = z[kept], kept if ids is None else ids[kept]
    logq: F64 = torch.log_softmax(z, dim=0).cpu().numpy()
    return None if ids is None else ids.cpu().numpy(), logq


def nucleus(z: torch.Tensor, top_p: float) -> torch.Tensor:
    """Places of the most likely tokens that hold ``top_p`` (at least one), in rising order."""
    p = torch.softmax(z, dim=0)
    places = torch.arange(len(z), device=z.device)
    dropped = 0.0
    if len(z) > SORTABLE:  # all that are below half of an even share of the rest go in any case
        sure = p <= (1.0 - top_p) / (2 * len(z))
        dropped = float(p[sure].sum())
        places = places[~sure]
        p, z = p[~sure], z[~sure]
    order = torch.sort(z, descending=True, stable=True).indices.flip(0)
    gone = dropped + p[order].cumsum(0) <= 1.0 - top_p
    gone[-1] = False
    kept: torch.Tensor = places[order[~gone]].sort().values
    return kept


def penalised(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """Logits with every seen token divided (if positive) or multiplied by it (Keskar 2019)."""
    at = torch.tensor(sorted(set(seen)), device=logits.device)
    out = logits.clone()
    values = out[at]
    out[at] = torch.where(values > 0, values / penalty, values * penalty)
    return out
