"""The lean step's matrices: products of few rows, over a second copy of the weights if it pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.nn import functional as F

PACKED_ROWS = 64  # more tokens than this gain nothing from packed weights
TALL = 4096  # rows of a weight that is packed to advantage for one token as well

Pack = Literal["", "turned", "onednn"]


class Matrix:
    """One weight (out, in) with its bias, multiplied by few rows at a time.

    Two to eight rows through torch's own product cost up to four times as much as one (its
    kernels are made for long sides). Over a second copy they cost 1.2 to 1.7 times as much: of a
    small model (``turned``) a transposed one, which serves one row and many as well; of a larger
    one a copy packed in oneDNN's order. It is made where there is room for it.
    """

    __slots__ = ("bias", "packed", "tall", "turned", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, pack: Pack) -> None:
        self.weight = weight
        self.bias = bias
        self.tall = weight.shape[0] >= TALL
        self.turned: torch.Tensor | None = None
        self.packed: torch.Tensor | None = None
        if pack == "turned":
            self.turned = weight.t().contiguous()  # GPT-2's layers are stored so: no copy
        elif pack == "onednn":
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 8)

    @property
    def packed_bytes(self) -> int:
        """What the second copy takes."""
        if self.turned is not None and self.turned.data_ptr() == self.weight.data_ptr():
            return 0
        return self.weight.nbytes if self.packed is not None or self.turned is not None else 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in) to (n, out)."""
        if self.turned is not None:
            if self.bias is None:
                return torch.mm(x, self.turned)
            return torch.addmm(self.bias, x, self.turned)
        n = x.shape[0]
        if self.packed is None or n > PACKED_ROWS or (n == 1 and not self.tall):
            return F.linear(x, self.weight, self.bias)
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, "none", [], ""
        )
        return out

    def add(self, x: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        """``to`` (n, out) and the product."""
        if self.bias is not None:
            return self(x).add_(to)
        if self.turned is not None:
            return torch.addmm(to, x, self.turned)
        n = x.shape[0]
        if n == 1 or self.packed is None or n > PACKED_ROWS:
            return torch.addmm(to, x, self.weight.t())
        return self(x).add_(to)


def joined(parts: Sequence[Any], pack: Pack) -> Matrix:
    """One matrix over the layers that take the same input (``Linear``, or GPT-2's ``Conv1D``).

    Where there are several, their own weights become views of it (no second copy).
    """
    if len(parts) == 1:
        part = parts[0]
        weight = part.weight.data
        return Matrix(weight.t() if _stored_turned(part) else weight, _bias(part), pack)
    weight = torch.cat([p.weight.data for p in parts])
    at = 0
    for part in parts:
        rows = part.weight.shape[0]
        part.weight.data = weight[at : at + rows]
        at += rows
    biases = [b for p in parts if (b := _bias(p)) is not None]
    if biases and len(biases) < len(parts):
        raise ValueError("some of the layers have a bias and some have none")
    return Matrix(weight, torch.cat(biases) if biases else None, pack)


def _bias(part: Any) -> torch.Tensor | None:
    bias = getattr(part, "bias", None)
    return None if bias is None else bias.data


def _stored_turned(part: Any) -> bool:
    """Whether its weight is (in, out)."""
    return type(part).__name__ == "Conv1D"
