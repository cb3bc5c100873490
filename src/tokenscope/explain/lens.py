"""What the residual stream says: the logit lens, and direct logit attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.backends.hf.anatomy import FrozenNorm, freeze_norm
from tokenscope.backends.hf.internals import Captured
from tokenscope.errors import AbilityError
from tokenscope.explain.gradients import F32
from tokenscope.explain.target import Asked

Part = Literal[
    "embedding", "head", "attention_bias", "mlp", "other", "rounding", "norm_bias", "head_bias"
]
# a remainder below this share of the stream is rounding of the model's own sums; a share above
# it is a part of its own. 16-bit: three units in the last place
ROUNDING = {torch.float16: 3e-3, torch.bfloat16: 2.4e-2}
# nats between the lens's last row and the model itself; 16 bits round between the two
LENS_ERROR = {torch.float16: 0.1, torch.bfloat16: 0.5}


@dataclass(frozen=True, slots=True)
class Lens:
    """Row l is the stream before layer l; the last row is the model's own output.

    ``ids`` int32 (L+1, k), ``logprobs`` float32 (L+1, k), most likely first; ``a``, ``b``
    float32 (L+1,): logprobs of A and B (``b`` NaN without one); ``rank_a`` int32 (L+1,).
    ``overtake``: the first row from which on A leads B (leads everything, without B), else None.
    """

    ids: NDArray[np.int32]
    logprobs: F32
    a: F32
    b: F32
    rank_a: NDArray[np.int32]
    overtake: int | None


def logit_lens(asked: Asked, k: int = 5, seen: Captured | None = None) -> Lens:
    """softmax(W_U Norm(h_l)) at the last position, for every l (nostalgebraist 2020).

    Raises AbilityError where the last row is not the model's own output: the family then does
    something behind its last layer that the lens does not know.
    """
    seen = seen or asked.internals.capture(asked.ids)
    anatomy, target = asked.internals.anatomy, asked.target
    ids, tops, a, b, rank = [], [], [], [], []
    dtype = asked.internals.embedding_weight.dtype
    with torch.no_grad():
        for h in seen.residual:
            logits = anatomy.head(anatomy.norm(h.to(dtype)[None, None]))[0, 0].float()
            logits = logits * anatomy.logit_scale
            if anatomy.softcap:
                logits = torch.tanh(logits / anatomy.softcap) * anatomy.softcap
            logp = torch.log_softmax(logits, dim=-1)
            top = torch.topk(logp, min(k, len(logp)))
            ids.append(top.indices.cpu().numpy().astype(np.int32))
            tops.append(top.values.cpu().numpy())
            a.append(float(logp[target.a]))
            b.append(float(logp[target.b]) if target.b is not None else np.nan)
            rank.append(1 + int((logp > logp[target.a]).sum()))
    whole = float(torch.log_softmax(asked.logits(), dim=-1)[target.a])
    if not abs(a[-1] - whole) <= LENS_ERROR.get(dtype, 1e-2):
        raise AbilityError(
            f"after the last layer the lens gives {a[-1]:.4f} where the model gives {whole:.4f}: "
            "this family does something behind its layers that the lens does not know"
        )
    leads = np.asarray(a) > np.asarray(b) if target.b is not None else np.asarray(rank) == 1
    return Lens(
        np.stack(ids), np.stack(tops), np.asarray(a, np.float32), np.asarray(b, np.float32),
        np.asarray(rank, np.int32), _from_here_on(leads),
    )  # fmt: skip


def _from_here_on(leads: Sequence[bool] | NDArray[np.bool_]) -> int | None:
    behind = np.flatnonzero(~np.asarray(leads))
    if not len(behind):
        return 0
    after = int(behind[-1]) + 1
    return after if after < len(leads) else None


@dataclass(frozen=True, slots=True)
class Component:
    """One summand of the logit difference, in nats. ``layer`` and ``head`` are -1 where unfit."""

    part: Part
    layer: int
    head: int
    value: float


@dataclass(frozen=True, slots=True)
class Components:
    """All summands; ``total`` is the model's own value, ``error`` is sum(components) - total.

    ``before_softcap``: the model caps its final logits, and this explains what stands before.
    ``centred``: there is no B, so ``total`` is z_A minus the mean logit.
    """

    parts: tuple[Component, ...]
    total: float
    error: float
    before_softcap: bool
    centred: bool


def direct_logits(asked: Asked, seen: Captured | None = None) -> Components:
    """Share of every head, MLP and bias in z_A - z_B, the final norm's scale frozen (Elhage 2021).

    Raises AbilityError for a final norm that is neither a LayerNorm nor an RMSNorm.
    """
    seen = seen or asked.internals.capture(asked.ids)
    anatomy, target = asked.internals.anatomy, asked.target
    weight: Tensor = anatomy.head.weight  # type: ignore[assignment]
    bias = getattr(anatomy.head, "bias", None)
    if weight.ndim != 2 or weight.shape[0] < len(seen.logits):
        raise AbilityError("the output head of this family is no single matrix")
    with torch.no_grad():
        if target.b is not None:
            direction = weight[target.a].double() - weight[target.b].double()
            offset = float(bias[target.a] - bias[target.b]) if bias is not None else 0.0
            total = float(seen.logits[target.a].double() - seen.logits[target.b].double())
        else:
            direction = weight[target.a].double() - weight.double().mean(0)
            offset = float(bias[target.a] - bias.mean()) if bias is not None else 0.0
            total = float(seen.logits[target.a].double() - seen.logits.double().mean())
        direction = direction * anatomy.logit_scale
        offset *= anatomy.logit_scale
        norm = freeze_norm(anatomy.norm, seen.residual[-1].to(weight.dtype))

        def read(part: Tensor) -> Tensor:
            return norm.apply(part.double()) @ direction

        parts = [Component("embedding", -1, -1, float(read(seen.residual[0])))]
        lost, limit = 0.0, ROUNDING.get(weight.dtype, 1e-4)
        for layer in anatomy.layers:
            i = layer.index
            parts += _attention(asked, seen, i, read)
            parts.append(Component("mlp", i, -1, float(read(seen.mlp[i]))))
            other = seen.residual[i + 1].double() - seen.residual[i].double()
            other = other - seen.attention[i].double() - seen.mlp[i].double()
            # a remainder above rounding: a mixer without attention, or a part not known by name
            if float(other.norm()) > limit * float(seen.residual[i + 1].norm()):
                parts.append(Component("other", i, -1, float(read(other))))
            else:
                lost += float(read(other))
        if weight.dtype in ROUNDING:  # 16-bit sums drop what a reader would miss in the total
            parts.append(Component("rounding", -1, -1, lost))
        if norm.bias is not None:
            value = float(norm.bias.double() @ direction)
            parts.append(Component("norm_bias", -1, -1, value))
        if bias is not None:
            parts.append(Component("head_bias", -1, -1, offset))
    error = sum(c.value for c in parts) - total
    if not abs(error) <= max(1.0, abs(total)) * LENS_ERROR.get(weight.dtype, 1e-2):
        raise AbilityError(
            f"the parts add up to {total + error:.4f} where the model has {total:.4f}: this family "
            "has a part that is not known by name"
        )
    return Components(tuple(parts), total, error, bool(anatomy.softcap), target.b is None)


def _attention(asked: Asked, seen: Captured, i: int, read: object) -> list[Component]:
    layer = asked.internals.anatomy.layers[i]
    heads = seen.heads[i]
    if heads is None or layer.out is None:
        return []
    assert callable(read)
    scale = asked.internals.anatomy.residual_scale
    written = torch.einsum("hk,hkd->hd", heads.double(), layer.head_matrices().double())
    bias = layer.out_bias()
    extra = bias.double() if bias is not None else None
    if layer.after_attention is not None:
        dtype = asked.internals.embedding_weight.dtype
        norm: FrozenNorm = freeze_norm(layer.after_attention, seen.raw_attention[i].to(dtype))
        written = norm.apply(written)
        extra = norm.apply(extra) if extra is not None else None
        if norm.bias is not None:
            extra = norm.bias.double() + (extra if extra is not None else 0.0)
    values = read(written * scale)
    out = [Component("head", i, h, float(v)) for h, v in enumerate(values)]
    if extra is not None:
        out.append(Component("attention_bias", i, -1, float(read(extra * scale))))
    return out
