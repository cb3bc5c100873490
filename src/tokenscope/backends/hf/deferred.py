"""Logits of a long feed, made block by block from the last hidden states when they are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tokenscope.backends.protocol import Full

WORTH = 64  # fewer rows are made at once


class DeferredLogits:
    """(n, V) that does not exist: ``head`` makes float32 rows from hidden states (n, d)."""

    def __init__(
        self, hidden: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor], size: int
    ) -> None:
        self._hidden = hidden
        self._head = head
        self._size = size

    @property
    def shape(self) -> tuple[int, int]:
        """(n, V)."""
        return int(self._hidden.shape[0]), self._size

    def __getitem__(self, at: Any) -> Any:
        """A slice stays deferred; a row number gives the row."""
        if isinstance(at, slice):
            return DeferredLogits(self._hidden[at], self._head, self._size)
        return DeferredLogits(self._hidden[at][None], self._head, self._size).make()[0]

    def make(self) -> torch.Tensor:
        """All rows."""
        with torch.inference_mode():
            return self._head(self._hidden).float()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """All rows as an array: for whoever wants them whole."""
        return self.make().cpu().numpy()


def splits(model: Any) -> bool:
    """Whether logits are the output matrix over the body's last hidden states, and no more.

    Families with a softcap or a scale after the matrix (Gemma, Cohere, Granite) are not split.
    """
    head, body = model.get_output_embeddings(), getattr(model, "model", None)
    if head is None or body is None or hasattr(model, "hf_device_map"):
        return False
    device = next(iter(model.parameters())).device
    ids = torch.arange(3, 7, device=device)[None] % int(
        model.get_input_embeddings().weight.shape[0]
    )
    try:
        with torch.inference_mode():
            want = model(input_ids=ids, use_cache=False).logits
            got = head(body(input_ids=ids, use_cache=False).last_hidden_state)
    except (RuntimeError, ValueError, AttributeError, TypeError):
        return False
    near = 1e-5 if want.dtype == torch.float32 else 1e-2
    return bool((got - want).abs().max() <= near * want.abs().max())


def scores(hidden: torch.Tensor, model: Any) -> Full:
    """The distributions after each of (n, d) hidden states."""
    head = model.get_output_embeddings()
    size = int(getattr(head, "out_features", 0) or head.weight.shape[0])
    made = DeferredLogits(hidden, head, size)
    return Full(made, True) if hidden.shape[0] > WORTH else Full(made.make())
