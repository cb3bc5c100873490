"""Attribution by gradients: input x gradient, integrated gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.control import QUIET, Control
from tokenscope.explain.target import Asked, batch_rows

F32 = NDArray[np.float32]

# a gap is tolerable below this share of |f(e) - f(e')|, or below this many nats
GAP_SHARE = 0.05
GAP_NATS = 0.05
STEPS = 32
MAX_STEPS = 256


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


def _gradient(asked: Asked, embeds: Tensor) -> tuple[Tensor, Tensor]:
    """f (B,) and df/de (B, at, d)."""
    leaf = embeds.detach().requires_grad_(True)
    with torch.enable_grad():
        f = asked.target.of(asked.internals.logits(leaf))
        (gradient,) = torch.autograd.grad(f.sum(), leaf)
    return f.detach(), gradient


def input_x_gradient(asked: Asked, control: Control = QUIET) -> Attribution:
    """v_i = e_i . df/de_i, float32 (at,), nats (Shrikumar 2017). One forward, one backward."""
    control.step(0, 1, "gradient")
    embeds = asked.embeds()
    f, gradient = _gradient(asked, embeds)
    values = (embeds * gradient).sum(-1)[0].float().cpu().numpy()
    control.step(1, 1, "gradient")
    return Attribution(values, float(f[0]))


def integrated_gradients(
    asked: Asked, control: Control = QUIET, steps: int = STEPS, max_steps: int = MAX_STEPS
) -> Attribution:
    """Gauss-Legendre integration from the mean embedding (Sundararajan 2017).

    Starts with ``steps`` points and doubles them while the completeness gap is too large, up to
    ``max_steps``; what has not converged by then comes back with ``converged`` False and says so.
    """
    embeds = asked.embeds()
    base = asked.internals.mean_embedding().expand_as(embeds)
    f1, f0 = asked.value(), float(asked.values(base)[0])
    total = f1 - f0
    tolerance = max(GAP_SHARE * abs(total), GAP_NATS)
    while True:
        values = _integrate(asked, embeds, base, steps, control)
        gap = float(values.sum(dtype=np.float64)) - total
        if abs(gap) <= tolerance or steps * 2 > max_steps:
            break
        steps *= 2
    good = bool(abs(gap) <= tolerance and np.isfinite(values).all())
    note = "" if good else (
        f"Integrated gradients did not converge: after {steps} steps the values add up to "
        f"{total + gap:.3f} where f(e) - f(e') is {total:.3f}. Do not rely on them."
    )  # fmt: skip
    return Attribution(values, f1, total, gap, good, steps, note)


def _integrate(asked: Asked, embeds: Tensor, base: Tensor, steps: int, control: Control) -> F32:
    points, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.as_tensor((points + 1) / 2, dtype=embeds.dtype, device=embeds.device)
    shares = torch.as_tensor(weights / 2, dtype=torch.float32, device=embeds.device)
    mean = torch.zeros(embeds.shape[1:], dtype=torch.float32, device=embeds.device)
    size = max(1, batch_rows(asked.n) // 2)  # activations are kept for the backward pass
    for start in range(0, steps, size):
        control.step(start, steps, "integrated gradients")
        part = alphas[start : start + size, None, None]
        _, gradient = _gradient(asked, base + part * (embeds - base))
        mean += (gradient.float() * shares[start : start + size, None, None]).sum(0)
    control.step(steps, steps, "integrated gradients")
    values: F32 = ((embeds - base)[0].float() * mean).sum(-1).cpu().numpy()
    return values
