"""Attention in full, recomputed in bounded memory: windows of one head, rollout, layout.

Every function runs one forward and reduces block by block; never all layers, heads, queries and
keys at once. Query row ``q`` is what the model looked at when it chose token ``q + 1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.control import QUIET, Control
from tokenscope.errors import AbilityError, InputError
from tokenscope.explain.gradients import F32
from tokenscope.explain.memory import LIMIT, check

Weighting = Literal["weights", "norm"]
HeadChoice = int | Literal["mean", "max"]


@dataclass(frozen=True, slots=True)
class LayerLayout:
    """What attention a layer has. ``window`` 0: all keys; ``kv_heads`` < ``heads``: grouped."""

    layer: int
    attention: bool
    heads: int
    kv_heads: int
    window: int
    sinks: bool


def layout(internals: Internals) -> tuple[LayerLayout, ...]:
    """One entry per layer, those without attention among them."""
    return tuple(
        LayerLayout(p.index, p.attention is not None, p.heads, p.kv_heads, p.window or 0, p.sinks)
        for p in internals.anatomy.layers
    )


def need_layer(internals: Internals, layer: int, head: HeadChoice) -> None:
    """Raises InputError for a layer or head that is not there, AbilityError without attention."""
    layers = internals.anatomy.layers
    if not 0 <= layer < len(layers):
        raise InputError("layer", f"must lie in 0..{len(layers) - 1}")
    if layers[layer].attention is None:
        raise AbilityError(
            f"layer {layer} has no attention; layers with attention: "
            f"{list(internals.anatomy.attention_layers)}"
        )
    if isinstance(head, int) and not 0 <= head < layers[layer].heads:
        raise InputError("head", f"must lie in 0..{layers[layer].heads - 1}")


def window(
    internals: Internals, ids: Sequence[int], layer: int, head: HeadChoice,
    queries: tuple[int, int] | None = None, keys: tuple[int, int] | None = None,
    weighting: Weighting = "weights", limit: int = LIMIT, control: Control = QUIET,
) -> F32:  # fmt: skip
    """float32 (rows, columns) of one head (or the mean or maximum over heads), by one forward.

    ``norm`` weights by the value vectors: |a_ij f(x_j)| (Kobayashi 2020). Raises CapacityError
    before anything is allocated.
    """
    need_layer(internals, layer, head)
    q0, q1 = _span("queries", queries, len(ids))
    k0, k1 = _span("keys", keys, len(ids))
    check(internals, len(ids), lambda n: min(q1 - q0, n) * min(k1 - k0, n) * 4, limit)
    out = np.zeros((q1 - q0, k1 - k0), dtype=np.float32)
    part = internals.anatomy.layers[layer]
    if weighting == "norm" and internals.eager:
        raise AbilityError("this family's own attention shows its weights, not its values")
    norms: list[Tensor] = []

    def watch(_layer: int, first: int, weights: Tensor, values: Tensor) -> None:
        control.step(first - q0, q1 - q0, "attention")
        block = weights[0, :, :, k0:k1]  # (H, rows, columns)
        if weighting == "norm":
            if not norms:
                norms.append(value_norms(values[0], part.head_matrices(), part.heads))
            block = block * norms[0][:, None, k0:k1]
        if head == "mean":
            block = block.mean(0)
        elif head == "max":
            block = block.amax(0)
        else:
            block = block[int(head)]
        out[first - q0 : first - q0 + block.shape[0]] = block.float().cpu().numpy()

    control.step(0, q1 - q0, "attention")
    # later layers play no part, but stopping a forward half-way is not worth its hooks
    internals.watch(ids, watch, (q0, q1), [layer])
    return out


def value_norms(values: Tensor, matrices: Tensor, heads: int) -> Tensor:
    """(H, T): |v_j W_O| of every head, from values (H_kv, T, head_dim), head by head."""
    groups = heads // values.shape[0]
    return torch.stack(
        [(values[h // groups] @ matrices[h].to(values.dtype)).norm(dim=-1) for h in range(heads)]
    ).float()


def rollout(
    internals: Internals, ids: Sequence[int], control: Control = QUIET, limit: int = LIMIT
) -> F32:
    """float32 (T, T): A^ = (mean over heads A + I) / row sum, R_l = A^_l R_(l-1).

    Abnar & Zuidema 2020. Layers without attention are the identity. Holds three (T, T) float32.
    """
    n = len(ids)
    check(internals, n, lambda m: 3 * m * m * 4, limit)
    state = torch.eye(n)
    following = torch.zeros(n, n)
    layers = internals.anatomy.attention_layers
    done = {"layers": 0}

    def watch(layer: int, first: int, weights: Tensor, _values: Tensor) -> None:
        nonlocal state, following
        mixed = weights[0].mean(0).cpu()  # (rows, T)
        rows = torch.arange(mixed.shape[0])
        mixed[rows, first + rows] += 1.0
        mixed /= mixed.sum(-1, keepdim=True)
        end = first + mixed.shape[0]
        # causal: no key beyond the last row of the block carries weight
        following[first:end] = mixed[:, :end] @ state[:end]
        if end == n:
            state, following = following, state
            done["layers"] += 1
            control.step(done["layers"], len(layers), "rollout")

    control.step(0, len(layers), "rollout")
    internals.watch(ids, watch)
    return state.numpy()


def _span(name: str, span: tuple[int, int] | None, length: int) -> tuple[int, int]:
    start, end = span or (0, length)
    if not 0 <= start < end <= length:
        raise InputError(name, f"must be a part of 0..{length}, not empty")
    return start, end
