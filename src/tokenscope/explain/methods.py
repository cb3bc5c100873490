"""The methods of attribution by name; each has a definition of the same name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenscope.control import Control
from tokenscope.errors import AbilityError
from tokenscope.explain.definitions import DEFINITIONS, Definition
from tokenscope.explain.gradients import Attribution, input_x_gradient
from tokenscope.explain.integrated import integrated_gradients
from tokenscope.explain.perturb import attention_knockout, occlusion
from tokenscope.explain.target import Asked
from tokenscope.registry import Registry


@dataclass(frozen=True, slots=True)
class Method:
    """``run(asked, control)`` gives values per token. ``cost`` in forwards, for n tokens before."""

    name: str
    run: Callable[[Asked, Control], Attribution]
    cost: str

    @property
    def definition(self) -> Definition:
        """Title, formula, source, limits."""
        return DEFINITIONS.get(self.name)


METHODS: Registry[Method] = Registry("method")


def mean_attention(asked: Asked, control: Control) -> Attribution:
    """Mean over layers and heads of the last query's row, float32 (at,): a picture, no cause."""
    if not asked.internals.anatomy.attention_layers:
        raise AbilityError("this model has no attention layers")
    total = torch.zeros(asked.n)
    count = 0

    def watch(_layer: int, _first: int, weights: Tensor, _values: Tensor) -> None:
        nonlocal total, count
        total = total + weights[0, :, 0].sum(0).cpu()
        count += weights.shape[1]

    control.step(0, 1, "attention")
    asked.internals.watch(asked.ids, watch, (asked.n - 1, asked.n))
    control.step(1, 1, "attention")
    note = "Attention is where the model looked, not why it chose: compare with knockout."
    return Attribution((total / max(count, 1)).numpy(), asked.value(), note=note)


def _add(name: str, run: Callable[[Asked, Control], Attribution], cost: str) -> None:
    METHODS.add(name, Method(name, run, cost))


_add("input_x_gradient", lambda a, c: input_x_gradient(a, c), "about 3")
_add("integrated_gradients", lambda a, c: integrated_gradients(a, c), "about 180; up to 2,500")
_add("occlusion", lambda a, c: occlusion(a, c), "about n / 2")
_add("attention_knockout", lambda a, c: attention_knockout(a, c), "1, and n steps")
_add("attention_mean", mean_attention, "1")
