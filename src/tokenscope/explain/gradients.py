"""What an attribution is, and the cheapest one: input x gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.control import QUIET, Control
from tokenscope.explain.target import Asked

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Attribution:
    """``values`` float32 (at,) in nats; ``total`` what they should add up to (None: no claim).

    ``gap`` is sum(values) - total; ``converged`` False means: do not use the values. ``note``
    says in a sentence what a reader must know.
    """

    values: F32
    value: float
    total: float | None = None
    gap: float | None = None
    converged: bool = True
    steps: int = 0
    note: str = ""


def gradient(f: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """f (B,) and its gradient (B, at, d) at rows (B, at, d)."""
    leaf = rows.detach().requires_grad_(True)
    with torch.enable_grad():
        made = f(leaf)
        (slope,) = torch.autograd.grad(made.sum(), leaf)
    return made.detach(), slope


def input_x_gradient(asked: Asked, control: Control = QUIET) -> Attribution:
    """v_i = e_i . df/de_i, float32 (at,), nats (Shrikumar 2017). One forward, one backward."""
    control.step(0, 1, "gradient")
    embeds = asked.embeds()
    f, slope = gradient(lambda rows: asked.target.of(asked.internals.logits(rows)), embeds)
    values = (embeds * slope).sum(-1)[0].float().cpu().numpy()
    control.step(1, 1, "gradient")
    return Attribution(values, float(f[0]))
