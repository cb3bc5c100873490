"""The lean step over int8 codes: the same few calls, a quarter of the bytes read a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tokenscope.backends.hf.compact import CompactStep
from tokenscope.backends.hf.int8 import Int8Embedding, Int8Linear, Table, product
from tokenscope.backends.hf.lean import Family


class CodedMatrix:
    """Codes (out, in) with scales; multiplied like ``matrix.Matrix``. Layers that take the same
    input share one: their own codes become views of it."""

    packed_bytes = 0

    def __init__(self, parts: Sequence[Int8Linear]) -> None:
        if len(parts) == 1:
            self.weight, self.scales = parts[0].codes, parts[0].scales
        else:
            self.weight = torch.cat([p.codes for p in parts])
            self.scales = torch.cat([p.scales for p in parts])
            at = 0
            for part in parts:
                end = at + part.codes.shape[0]
                part.codes, part.scales = self.weight[at:end], self.scales[at:end]
                at = end
        biases: list[Tensor] = [p.bias for p in parts if p.bias is not None]
        self.bias = torch.cat(biases) if biases else None

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) to float32 (n, out)."""
        out = product(x, self.weight, self.scales)
        return out if self.bias is None else out.add_(self.bias)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """``to`` and the product."""
        return self(x).add_(to)


class Rows(Table):
    """The token table as the lean step looks at it."""

    def new_empty(self, *shape: int) -> Tensor:
        """An empty float32 tensor where the table is."""
        return torch.empty(*shape, device=self.device)


class Int8Step(CompactStep):
    """The step of a model whose every matrix became int8; its norms are float32."""

    def __init__(self, model: Any, family: Family) -> None:
        table = model.get_input_embeddings()
        self.embedding = Rows(table.codes, table.scales)
        coded: Any = CodedMatrix
        self._take(family, model.get_output_embeddings(), coded)
        self.packed_bytes, self.note = 0, ""


def step(model: Any, family: Family) -> Int8Step | None:
    """The step where all that it multiplies by is int8, on a CPU, else None."""
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    parts = [m for x in family.layers for m in (*x.qkv, x.out, *x.up, x.down)]
    if type(table) is not Int8Embedding or any(type(m) is not Int8Linear for m in (*parts, head)):
        return None
    return Int8Step(model, family) if table.codes.device.type == "cpu" else None
