"""Which experts a mixture asks, and how sure its routers are, by the family's own routers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.errors import AbilityError

LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, eq=False)
class Routing:
    """Of L layers with experts and n positions: ``probabilities`` float32 (L, n, E), that sum to 1;
    ``chosen`` int32 (L, n, k); ``weights`` float32 (L, n, k), as the layer multiplies by them."""

    layers: tuple[int, ...]
    probabilities: NDArray[np.float32]
    chosen: NDArray[np.int32]
    weights: NDArray[np.float32]


def routers(model: Any) -> list[tuple[int, Any]]:
    """(layer, module) of every router, in order."""
    found = []
    for name, module in model.named_modules():
        at = LAYER.search(name)
        if at is not None and "router" in type(module).__name__.lower():
            found.append((int(at[1]), module))
    return found


def routing(model: Any, ids: list[int]) -> Routing:
    """Run the text once and keep what every router says of each position.

    A router's logits become probabilities by softmax (Shazeer 2017), or, in families whose routers
    score each expert by itself (DeepSeek-V3, arXiv 2412.19437), by sigmoid over their sum. Raises
    AbilityError for a model without routers, or with routers of another shape.
    """
    held = routers(model)
    if not held:
        raise AbilityError("this model has no routers: it is no mixture of experts")
    seen: dict[int, tuple[Any, Any, Any]] = {}
    hooks = []
    for layer, module in held:

        def keep(one: Any, _: Any, out: Any, layer: int = layer) -> None:
            if not isinstance(out, tuple) or len(out) != 3 or out[2].shape != out[1].shape:
                return
            logits, weights, chosen = (x.detach().reshape(len(ids), -1) for x in out)
            wide = logits.float()
            alone = hasattr(one, "e_score_correction_bias")
            p = wide.sigmoid() if alone else wide.softmax(-1)
            seen[layer] = p / p.sum(-1, keepdim=True), chosen, weights

        hooks.append(module.register_forward_hook(keep))
    body = getattr(model, "model", model)
    try:
        with torch.inference_mode():
            device = next(iter(model.parameters())).device
            body(input_ids=torch.tensor([ids], device=device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if len(seen) != len(held):
        raise AbilityError("the routers of this family do not tell what they choose")
    layers = tuple(sorted(seen))
    parts = [torch.stack([seen[n][i] for n in layers]).cpu() for i in range(3)]
    return Routing(
        layers, parts[0].float().numpy(), parts[1].to(torch.int32).numpy(),
        parts[2].float().numpy(),
    )  # fmt: skip
