"""A tuned lens: per layer an affine map, fitted so that the lens reads what the model will say.

Belrose 2023 (arXiv 2303.08112): h'_l = h_l + A_l h_l + b_l, A = b = 0 at the start (then it is the
logit lens), fitted to the least KL(model || lens) at every position.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError, ModelError
from tokenscope.explain.cells import within
from tokenscope.explain.gradients import F32
from tokenscope.explain.lens_grid import chunks, streams, unembed
from tokenscope.explain.memory import LIMIT

STEPS, BATCH, RATE = 300, 128, 1e-3
HELD_OUT = 0.2
# a window of text is fitted as one sequence; positions of most texts are covered by this
WINDOW = 256
FORMAT = "tokenscope-tuned-lens-1"


@dataclass(frozen=True, eq=False)
class TunedLens:
    """``weight`` (L, d, d) and ``bias`` (L, d) float32. ``logit_kl`` and ``tuned_kl`` (L,): mean
    KL(model || lens) in nats on ``held_out`` positions that the fit never saw."""

    weight: Tensor
    bias: Tensor
    model_digest: str
    logit_kl: F32
    tuned_kl: F32
    fitted: int
    held_out: int
    steps: int
    seed: int
    source: str = ""

    def translate(self, layer: int, h: Tensor) -> Tensor:
        """The stream before ``layer`` (..., d) in the final layer's language."""
        return translated(self.weight[layer].to(h), self.bias[layer].to(h), h)

    def save(self, path: Path) -> None:
        """One safetensors file; a reader never sees half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": FORMAT, "model_digest": self.model_digest, "fitted": self.fitted,
            "held_out": self.held_out, "steps": self.steps, "seed": self.seed,
            "source": self.source, "logit_kl": self.logit_kl.tolist(),
            "tuned_kl": self.tuned_kl.tolist(),
        }  # fmt: skip
        temporary = path.with_suffix(".writing")
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        save_file(tensors, temporary, {"lens": json.dumps(facts)})
        temporary.replace(path)


def read_lens(path: Path, internals: Internals, model_digest: str) -> TunedLens:
    """Raises ModelError for a file that is damaged or was fitted to another model."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["lens"])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        made = TunedLens(
            weight.float(), bias.float(), str(facts["model_digest"]),
            np.asarray(facts["logit_kl"], np.float32), np.asarray(facts["tuned_kl"], np.float32),
            int(facts["fitted"]), int(facts["held_out"]), int(facts["steps"]),
            int(facts["seed"]), str(facts["source"]),
        )  # fmt: skip
        known = facts["format"] == FORMAT
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ModelError(path, f"is no tuned lens ({type(error).__name__})") from error
    layers, d = len(internals.anatomy.layers), internals.hidden
    shapes = tuple(weight.shape) == (layers, d, d) and tuple(bias.shape) == (layers, d)
    if not known or not shapes or made.model_digest != model_digest:
        raise ModelError(path, "is a tuned lens of another model or another version")
    return made


def translated(weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
    """h + A h + b."""
    return h + h @ weight.T + bias


class Fitting:
    """One fit: checks when it is made. ``texts``: sequences of ids, cut into windows.

    ``start``: the ids that the model expects before any text; every window begins with them.
    ``window``: tokens of one, no more than the model's context.
    The last fifth of the windows is held out. Raises InputError, CapacityError.
    """

    def __init__(
        self, internals: Internals, texts: Sequence[Sequence[int]], model_digest: str,
        start: Sequence[int] = (), steps: int = STEPS, batch: int = BATCH, rate: float = RATE,
        seed: int = 0, window: int = WINDOW, source: str = "", control: Control = QUIET,
        keep: Callable[[TunedLens], None] | None = None, limit: int = 2 * LIMIT,
    ) -> None:  # fmt: skip
        if not 1 <= steps <= 100_000:
            raise InputError("steps", "must lie in 1..100000")
        size = window - len(start)
        windows = [
            [*start, *text[i : i + size]] for text in texts for i in range(0, len(text), size)
            if len(text[i : i + size]) >= 8
        ]  # fmt: skip
        held = max(1, round(HELD_OUT * len(windows)))
        if len(windows) < 2:
            needed = 2 * size
            raise InputError("text", f"is too short: at least {needed} tokens, to hold some out")
        self.train, self.held = windows[:-held], windows[-held:]
        layers, d = len(internals.anatomy.layers), internals.hidden
        kept = (layers + 1) * d * 4 * sum(map(len, windows)) + 3 * layers * (d * d + d) * 4
        within(kept, sum(map(len, windows)), limit)
        self.internals, self.digest, self.control = internals, model_digest, control
        self.steps, self.batch, self.rate, self.seed = steps, batch, rate, seed
        self.source, self.keep = source, keep

    def run(self) -> TunedLens:
        """Fit, then measure on what was held out. ``keep`` gets what there is now and then."""
        self.control.step(0, self.steps, "reading the text")
        h = self._read(self.train)
        held = self._read(self.held)
        layers, d = len(self.internals.anatomy.layers), self.internals.hidden
        weight = torch.zeros(layers, d, d, device=h.device, requires_grad=True)
        bias = torch.zeros(layers, d, device=h.device, requires_grad=True)
        adam = torch.optim.Adam([weight, bias], lr=self.rate)
        for step in range(self.steps):
            self.control.step(step, self.steps, "fitting the lens")
            for group in adam.param_groups:
                group["lr"] = self.rate * (1 - step / self.steps)
            drawn = np.random.default_rng((self.seed, step)).integers(0, h.shape[1], self.batch)
            self._gradients(weight, bias, h[:, torch.as_tensor(drawn, device=h.device)])
            adam.step()
            if self.keep is not None and step and step % 100 == 0:
                self.keep(self._made(weight, bias, held, h.shape[1], step))
        self.control.step(self.steps, self.steps, "fitting the lens")
        return self._made(weight, bias, held, h.shape[1], self.steps)

    def _read(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """(L+1, N, d) float32; the first position of a window, which has no text before it, left
        out: its size is unlike that of any other."""
        return torch.cat([streams(self.internals, w)[:, 1:].float() for w in windows], dim=1)

    def _gradients(self, weight: Tensor, bias: Tensor, h: Tensor) -> None:
        """Mean KL of a batch (L+1, B, d), layer by layer so that one layer's logits exist."""
        dtype = self.internals.embedding_weight.dtype
        weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
        with self.internals.turn:
            with torch.no_grad():
                final = torch.log_softmax(unembed(self.internals, h[-1].to(dtype)), dim=-1)
            for i in range(len(weight)):
                a, b = (x[i].detach().requires_grad_() for x in (weight, bias))
                logits = unembed(self.internals, translated(a, b, h[i]).to(dtype))
                logp = torch.log_softmax(logits, dim=-1)
                loss = (final.exp() * (final - logp)).sum(-1).mean()
                # of these two only: the model's own weights want no gradients
                weight.grad[i], bias.grad[i] = torch.autograd.grad(loss, (a, b))

    def _made(self, weight: Tensor, bias: Tensor, held: Tensor, n: int, step: int) -> TunedLens:
        weight, bias = weight.detach().clone(), bias.detach().clone()
        logit, tuned = held_out_kl(self.internals, held, weight, bias)
        return TunedLens(
            weight.cpu(), bias.cpu(), self.digest, logit, tuned, n, held.shape[1], step,
            self.seed, self.source,
        )  # fmt: skip


def held_out_kl(internals: Internals, h: Tensor, weight: Tensor, bias: Tensor) -> tuple[F32, F32]:
    """Mean KL(model || logit lens) and KL(model || tuned lens) per layer, (L,), of (L+1, N, d)."""
    layers, n = len(weight), h.shape[1]
    sums = np.zeros((2, layers))
    dtype = internals.embedding_weight.dtype
    with torch.no_grad(), internals.turn:
        for start, end in chunks(internals, n):
            final = torch.log_softmax(unembed(internals, h[-1, start:end].to(dtype)), dim=-1)
            for i in range(layers):
                x = h[i, start:end]
                for row, y in enumerate((x, translated(weight[i], bias[i], x))):
                    logp = torch.log_softmax(unembed(internals, y.to(dtype)), dim=-1)
                    sums[row, i] += float((final.exp() * (final - logp)).sum())
    means = (sums / n).astype(np.float32)
    return means[0], means[1]
