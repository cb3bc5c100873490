"""Weights as int8 codes with one scale per output row: a quarter of float32's memory.

Each matrix is read, rounded and let go before the next, so the float model never exists whole.
Products of few rows use torch's int8 kernel (its inputs and outputs are bfloat16), products of
many a matrix that is unpacked for the moment; everything between is float32. Symmetric rounding,
``w ~ scale * code`` with ``scale = max|w| / 127`` per row (weight-only int8 as in Dettmers 2022,
section 2, without its outlier part). The token table is kept so as well; where it is also the
output matrix, the two share their codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenscope.errors import ModelError

FEW_ROWS = 8  # up to here the int8 kernel is the faster one,
FEW_ROWS_TALL = 32  # or here, where unpacking costs more than the product
TALL = 16_384
BLOCK = 1 << 22  # values that are wide at a time
_exact: ContextVar[bool] = ContextVar("int8_exact", default=False)


@contextmanager
def exact() -> Iterator[None]:
    """Inside the block products are float32 over the unpacked codes: what rounding is judged by."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def rounded(weight: Tensor, name: str = "weight") -> tuple[Tensor, Tensor]:
    """int8 codes (out, in) and float32 scales (out,). Raises ModelError for what is not finite."""
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(weight.shape[0], device=weight.device)
    for rows in blocks(weight.shape):  # so that no second float copy exists
        wide = weight.detach()[rows].float()
        most = wide.abs().amax(dim=1)
        if not torch.isfinite(most).all():
            raise ModelError(name, "holds values that are not finite (NaN or infinite)")
        scales[rows] = (most / 127.0).clamp_min(torch.finfo(torch.float32).tiny)
        codes[rows] = (wide / scales[rows, None]).round_().to(torch.int8)
    return codes, scales


def blocks(shape: Sequence[int]) -> Iterator[slice]:
    """The rows of a matrix in blocks of at most ``BLOCK`` values."""
    step = max(1, BLOCK // max(int(shape[1]), 1))
    for start in range(0, int(shape[0]), step):
        yield slice(start, start + step)


def product(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """float32 (n, out): x (n, in) times codes (out, in), by the kernel that suits ``n``."""
    n, tall = x.shape[0], codes.shape[0] >= TALL
    if x.device.type == "cpu" and n <= (FEW_ROWS_TALL if tall else FEW_ROWS):
        ones = torch.ones(len(scales), dtype=torch.bfloat16)
        return torch._weight_int8pack_mm(x.bfloat16(), codes, ones).float().mul_(scales)
    return unpacked(x, codes, scales, _fast_bfloat16(x.device))


def unpacked(x: Tensor, codes: Tensor, scales: Tensor, narrow: bool = False) -> Tensor:
    """The same over codes that are made wide block by block, in float32 or (``narrow``) 16 bits."""
    kind = torch.bfloat16 if narrow else torch.float32
    x = x.to(kind)
    if codes.numel() <= BLOCK:
        return F.linear(x, codes.to(kind)).float().mul_(scales)
    out = torch.empty(x.shape[0], codes.shape[0], device=x.device)
    for rows in blocks(codes.shape):
        out[:, rows] = F.linear(x, codes[rows].to(kind))
    return out.mul_(scales)


class _Product(torch.autograd.Function):
    """x (n, in) times codes (out, in), float32; the gradient goes to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(codes, scales)
        return product(x, codes, scales)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        codes, scales = ctx.saved_tensors
        return (grads[0].float() * scales) @ codes.float(), None, None


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Int8Linear(nn.Linear):
    """A linear layer over codes. Made empty, from the layer that it replaces; ``weight`` is
    unpacked whenever somebody asks for it."""

    codes: Tensor
    scales: Tensor

    def __init__(self, like: nn.Linear) -> None:
        nn.Module.__init__(self)  # not Linear's: no weight is made
        self.in_features, self.out_features = like.in_features, like.out_features
        self._parameters["weight"] = like._parameters["weight"]
        self.register_parameter("bias", like._parameters["bias"])

    def put(self, codes: Tensor, scales: Tensor) -> None:
        """Take these in place of a float weight."""
        self._parameters.pop("weight", None)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """float32 (out, in), unpacked for whoever asked; before loading, the empty float one."""
        held = self._parameters.get("weight")
        if held is not None:
            return held
        return self.codes.float().mul_(self.scales[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out) in the type of ``x``."""
        rows = x.reshape(-1, x.shape[-1])
        if _exact.get():
            out = unpacked(rows.float(), self.codes, self.scales)
        else:
            out = _Product.apply(rows, self.codes, self.scales)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1).to(x.dtype)


class Table:
    """The token table as far as others look at it: sizes, place, and rows made when asked for."""

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        self._codes, self._scales = codes, scales
        self.shape, self.device, self.dtype = codes.shape, codes.device, torch.float32

    def __getitem__(self, at: Any) -> Tensor:
        """float32 rows; a number gives one row."""
        return self._codes[at].float() * self._scales[at][..., None]

    def detach(self) -> Tensor:
        """All of it, float32."""
        return self[:]


class Int8Embedding(nn.Module):
    """A token table over codes, possibly shared with the output matrix."""

    codes: Tensor
    scales: Tensor

    def __init__(self, codes: Tensor, scales: Tensor, factor: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.factor = factor  # Gemma multiplies what it looks up

    @property
    def weight(self) -> Any:
        """The table; a row is unpacked when it is looked at."""
        return Table(self.codes, self.scales)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to float32 (..., d)."""
        out = self.codes[ids].float() * self.scales[ids][..., None]
        return out if self.factor is None else out * self.factor.to(out)


def is_int8(model: nn.Module) -> bool:
    """Whether any of its matrices is one of codes."""
    return any(isinstance(m, Int8Linear) for m in model.modules())
