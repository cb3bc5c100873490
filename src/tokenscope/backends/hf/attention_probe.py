"""The watching and changing part of explanations, on the very model that decoded.

Where the model was loaded with the kernel, it stays on it. Families that decode with their own
eager attention keep it, mask form included: there weights are read from what their attention
modules return, and an edge is cut through the mask that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokenscope.backends.hf.attention_kernel import (
    KERNEL,
    Edges,
    active,
    block_rows,
)
from tokenscope.errors import AbilityError

# (layer, first query row, weights (B, H, rows, keys) float32, values (B, H_kv, keys, head_dim));
# a family on its own eager attention shows no values: they are empty there
Watcher = Callable[[int, int, Tensor, Tensor], None]


@dataclass(slots=True)
class Probe:
    """``watch`` sees the weights of the query rows ``rows`` (None: all) of ``layers`` (None: all).

    ``edges``: pairs of batch row (None: every row) and edge.
    """

    watch: Watcher | None = None
    rows: tuple[int, int] | None = None
    layers: frozenset[int] | None = None
    edges: Edges = ()

    def wanted(self, layer: int, offset: int, n: int) -> tuple[int, int]:
        """The watched rows among the ``n`` new ones."""
        if self.watch is None or (self.layers is not None and layer not in self.layers):
            return 0, 0
        return (0, n) if self.rows is None else (self.rows[0] - offset, self.rows[1] - offset)

    def see(self, layer: int, first: int, weights: Tensor, values: Tensor) -> None:
        """Hand a block to the watcher."""
        if self.watch is not None:
            self.watch(layer, first, weights, values)

    def edges_in(self, layer: int) -> Edges:
        """The edges that concern ``layer``."""
        return [(r, e) for r, e in self.edges if e.layer is None or e.layer == layer]

    def shift(
        self, layer: int, first: int, n: int, keys: int, like: Tensor, heads: int
    ) -> Tensor | None:
        """Scores are left as they are."""
        return None

    def block(self, batch_heads: int, keys: int) -> int:
        """So many rows that their scores stay within ``BLOCK_BYTES``."""
        return block_rows(batch_heads, keys)


@contextmanager
def probing(model: nn.Module, probe: Probe) -> Iterator[None]:
    """Make the model's attention go through the kernel; what was set before comes back."""
    configs = {id(c): c for c in _configs(model)}.values()
    before = [(c, c._attn_implementation) for c in configs]
    try:
        for config, _ in before:
            config._attn_implementation = KERNEL
        with active(probe):
            yield
    finally:
        for config, name in before:
            config._attn_implementation = name


@contextmanager
def probing_eager(attentions: Sequence[nn.Module | None], probe: Probe) -> Iterator[None]:
    """The same for a family on its own eager attention, by hooks on its attention modules.

    Raises AbilityError where a module returns no weights, takes no mask, or is asked to set a
    weight to 0 and leave the others (its own softmax stands in between).
    """
    with ExitStack() as hooks:
        for layer, module in enumerate(attentions):
            if module is None:
                continue
            edges = probe.edges_in(layer)
            if any(e.how == "zero" for _, e in edges):
                raise AbilityError("this family's attention can be cut, but no weight set to 0")
            if edges:
                handle = module.register_forward_pre_hook(_cutting(edges), with_kwargs=True)
                hooks.callback(handle.remove)
            if edges or (probe.watch and (probe.layers is None or layer in probe.layers)):
                handle = module.register_forward_hook(_reading(layer, probe, edges))
                hooks.callback(handle.remove)
        yield


def _cutting(edges: Edges) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        mask = kwargs.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 4:
            raise AbilityError(f"{type(module).__name__} takes no mask that an edge is cut by")
        hidden = args[0] if args else kwargs["hidden_states"]
        heads = _heads_of(module) if any(e.head is not None for _, e in edges) else mask.shape[1]
        mask = mask.expand(hidden.shape[0], heads, *mask.shape[2:]).clone()
        # a Boolean mask says what is allowed, or (MPT) what is not: the last query reads itself
        gone = not bool(mask[0, 0, -1, -1]) if mask.dtype == torch.bool else None
        lowest = gone if gone is not None else torch.finfo(mask.dtype).min
        offset = mask.shape[3] - mask.shape[2]
        for row, edge in edges:
            mask[_at(row), _at(edge.head), edge.query - offset, edge.key] = lowest
        return args, {**kwargs, "attention_mask": mask}

    return hook


def _reading(layer: int, probe: Probe, edges: Edges) -> Callable[..., Any]:
    def hook(module: nn.Module, _args: Any, output: Any) -> None:
        weights = _weights(output)
        if weights is None:
            raise AbilityError(f"{type(module).__name__} does not give its attention weights")
        n, keys = weights.shape[2:]
        offset = keys - n
        for row, edge in edges:  # believed only when it is seen to be gone
            left = weights[_at(row), _at(edge.head), edge.query - offset, edge.key]
            if float(left.abs().max()) > 0:
                raise AbilityError(f"{type(module).__name__} cannot be cut by its mask")
        lo, hi = probe.wanted(layer, offset, n)
        if hi > lo:
            probe.see(layer, offset + lo, weights[:, :, lo:hi].float(), weights[..., :0])

    return hook


def _weights(output: Any) -> Tensor | None:
    parts = output if isinstance(output, tuple) else (output,)
    found = [p for p in parts[1:] if isinstance(p, Tensor) and p.ndim == 4]
    return next((p for p in found if p.shape[3] >= p.shape[2] and _sums_to_one(p)), None)


def _sums_to_one(weights: Tensor) -> bool:
    sums = weights[0, :, -1].float().sum(-1)
    return bool(((sums - 1).abs() < 2e-2).all())


def _heads_of(module: nn.Module) -> int:
    for name in ("num_heads", "num_attention_heads", "n_heads", "num_key_value_heads"):
        found = getattr(module, name, None)
        if isinstance(found, int):
            return found
    raise AbilityError(f"{type(module).__name__} does not tell how many heads it has")


def _at(index: int | None) -> slice | int:
    return slice(None) if index is None else index


def _configs(model: nn.Module) -> Iterator[Any]:
    yield model.config
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            yield config
