"""Changes of a model's inside while it reads: what ``Feed.changes`` holds here.

They run through the family's own modules, by hooks and by the one attention function; the lean
step knows none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokenscope.backends.hf.anatomy import Anatomy, LayerParts
from tokenscope.errors import AbilityError, InputError

Place = Literal["head", "attention", "mlp", "layer", "residual"]
Holds = Callable[[int], bool]  # whether it is in force while the token at a position is read


@dataclass(frozen=True, eq=False)
class Instead:
    """What one part gives is replaced, or added to.

    ``place``: ``head``: a slice of the input of the output projection; ``attention``, ``mlp``: what
    the part returns, before a norm behind it; ``layer``: what it adds to the stream; ``residual``:
    the stream before it. ``value(position)`` (width,) stands in; ``adds``: is added.
    """

    place: Place
    layer: int
    holds: Holds
    value: Callable[[int], Tensor]
    head: int = -1
    adds: bool = False


@dataclass(frozen=True, eq=False)
class Weighed:
    """Attention from tokens in force to the tokens ``keys`` (K,) times ``factor``, renormalised."""

    keys: Tensor
    factor: float
    holds: Holds
    layers: frozenset[int] = frozenset()
    heads: tuple[int, ...] = ()


Change = Instead | Weighed


def check(changes: Sequence[Change], anatomy: Anatomy) -> None:
    """Raises InputError for a layer or head that is not there, AbilityError for a missing part."""
    for c in changes:
        if isinstance(c, Instead):
            part = part_of(anatomy, c.layer)
            if c.place == "head" and (part.out is None or c.head >= part.heads):
                raise InputError("head", f"layer {c.layer} has {part.heads} heads")
            if module_of(part, c.place) is None:
                raise AbilityError(f"layer {c.layer} has no {c.place}")
        elif not isinstance(c, Weighed):
            raise AbilityError("this model's attention is changed by its own edits")
        else:
            for layer in c.layers:
                if part_of(anatomy, layer).attention is None:
                    raise AbilityError(f"layer {layer} has no attention")
            if any(h >= anatomy.heads for h in c.heads):
                raise InputError("heads", f"must lie in 0..{anatomy.heads - 1}")


def part_of(anatomy: Anatomy, layer: int) -> LayerParts:
    """Raises InputError for a layer that does not exist."""
    if not 0 <= layer < len(anatomy.layers):
        raise InputError("layer", f"must lie in 0..{len(anatomy.layers) - 1}")
    return anatomy.layers[layer]


def module_of(part: LayerParts, place: Place) -> nn.Module | None:
    """The module whose input or output a place is."""
    return {
        "head": part.out, "attention": part.attention, "mlp": part.mlp, "layer": part.block,
        "residual": part.block,
    }[place]  # fmt: skip


@contextmanager
def hanging(changes: Sequence[Change], anatomy: Anatomy, first: int) -> Iterator[None]:
    """Hooks for one forward whose first token stands at position ``first``."""
    with ExitStack() as hooks:
        for c in changes:
            if not isinstance(c, Instead):
                continue
            part = anatomy.layers[c.layer]
            module = module_of(part, c.place)
            assert module is not None
            if c.place == "layer":
                for handle in _around(c, first, module):
                    hooks.callback(handle.remove)
            elif c.place in ("head", "residual"):
                span = slice(None)
                if c.place == "head":
                    span = slice(c.head * part.head_dim, (c.head + 1) * part.head_dim)
                handle = module.register_forward_pre_hook(_before(c, first, span), with_kwargs=True)
                hooks.callback(handle.remove)
            else:
                hooks.callback(module.register_forward_hook(_after(c, first)).remove)
        yield


def _put(c: Instead, first: int, x: Tensor, span: slice = slice(None)) -> Tensor:
    """``x`` (1, n, width) with the change at the positions where it holds."""
    x = x.clone()
    for n in range(x.shape[1]):
        if c.holds(first + n):
            value = c.value(first + n).to(x.device, x.dtype)
            x[:, n, span] = x[:, n, span] + value if c.adds else value
    return x


def _before(c: Instead, first: int, span: slice) -> Callable[..., Any]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = _put(c, first, args[0] if args else kwargs["hidden_states"], span)
        return ((made, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": made})

    return hook


def _after(c: Instead, first: int) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_put(c, first, output[0]), *output[1:])
        return _put(c, first, output)

    return hook


def _around(c: Instead, first: int, module: nn.Module) -> list[Any]:
    """What a layer adds is its output less its input."""
    kept: list[Tensor] = []

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept[:] = [args[0] if args else kwargs["hidden_states"]]

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        x = kept.pop()
        made = output[0] if isinstance(output, tuple) else output
        out = x + _put(c, first, made - x)
        keep = [not c.holds(first + n) for n in range(x.shape[1])]
        out[:, keep] = made[:, keep]  # exactly as it was
        return (out, *output[1:]) if isinstance(output, tuple) else out

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    ]


def shift(
    changes: Sequence[Change], layer: int, first: int, n: int, keys: int, like: Tensor, heads: int
) -> Tensor | None:
    """(heads or 1, n, keys): what is added to the scores of the queries from position ``first`` on;
    None where nothing is. ln of the factor before the softmax is the factor after it."""
    out: Tensor | None = None
    for c in changes:
        if not isinstance(c, Weighed) or (c.layers and layer not in c.layers):
            continue
        rows = [r for r in range(n) if c.holds(first + r)]
        seen = c.keys[c.keys < keys].to(like.device)
        if not rows or not len(seen):
            continue
        if out is None:
            out = torch.zeros(heads, n, keys, dtype=like.dtype, device=like.device)
        added = math.log(c.factor) if c.factor > 0 else float(torch.finfo(like.dtype).min) / 4
        which = torch.tensor(c.heads or range(heads), device=like.device)
        at = torch.tensor(rows, device=like.device)
        # a token reads itself in any case: a row that reads nothing has no meaning
        add = torch.full((len(rows), len(seen)), added, dtype=like.dtype, device=like.device)
        add[seen[None, :] == (first + at)[:, None]] = 0.0
        out[which[:, None, None], at[None, :, None], seen[None, None, :]] += add
    return out


def stood(model: Any, part: LayerParts, place: Place, ids: Sequence[int]) -> Tensor:
    """(T, width): what a place of the model as it is gave while ``ids`` were read."""
    kept: dict[str, Tensor] = {}

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept["in"] = (args[0] if args else kwargs["hidden_states"])[0].detach().clone()

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        kept["out"] = (output[0] if isinstance(output, tuple) else output)[0].detach().clone()

    module = module_of(part, place)
    assert module is not None
    hooks = [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    ]
    try:
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=model.get_input_embeddings().weight.device)
            positions = torch.arange(len(ids), device=tokens.device)[None]
            model(input_ids=tokens, position_ids=positions, use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    if place == "layer":
        return kept["out"] - kept["in"]
    return kept["in"] if place in ("head", "residual") else kept["out"]
