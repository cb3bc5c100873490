"""Reading and writing a model's parts at chosen positions: what patching and ablation stand on.

A :class:`Site` is a place that every family has. :func:`record` keeps what stood there in a run;
:func:`writing` hangs hooks that put other values there, row by row of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokenscope.backends.hf.anatomy import LayerParts
from tokenscope.backends.hf.internals import Internals
from tokenscope.errors import InputError

Kind = Literal["residual", "attention", "mlp", "heads"]
KINDS: tuple[Kind, ...] = ("residual", "attention", "mlp", "heads")


@dataclass(frozen=True, slots=True)
class Site:
    """``residual``: the stream before layer ``layer`` (d,). ``attention``, ``mlp``: what the part
    returns (d,), before a norm behind it. ``heads``: the input of the output projection
    (H * head_dim,), or one head's slice of it where ``head`` >= 0."""

    kind: Kind
    layer: int
    head: int = -1


@dataclass(frozen=True, eq=False)
class Write:
    """Put ``value`` (P, width) or (width,) at ``positions`` (P,) of ``site`` in one batch row."""

    row: int
    site: Site
    positions: Tensor
    value: Tensor


# (kind, layer) -> (B, T, width), detached, in the model's own dtype
Recorded = Mapping[tuple[Kind, int], Tensor]


def has(internals: Internals, site: Site) -> bool:
    """Whether the model has such a place: a hybrid's layer may lack attention."""
    if not 0 <= site.layer < len(internals.anatomy.layers):
        return False
    part = internals.anatomy.layers[site.layer]
    if site.kind == "heads":
        return part.out is not None and site.head < part.heads
    return {"residual": part.block, "attention": part.attention, "mlp": part.mlp}[
        site.kind
    ] is not None


def width(internals: Internals, kind: Kind) -> int:
    """Numbers per position at a site of this kind (of the widest layer)."""
    if kind != "heads":
        return internals.hidden
    return max((p.heads * p.head_dim for p in internals.anatomy.layers), default=0)


def span(part: LayerParts, head: int) -> slice:
    """Where one head stands in the input of the output projection; all of it for -1."""
    return slice(None) if head < 0 else slice(head * part.head_dim, (head + 1) * part.head_dim)


def record(
    internals: Internals, embeds: Tensor, kinds: Sequence[Kind], writes: Sequence[Write] = ()
) -> tuple[Tensor, dict[tuple[Kind, int], Tensor]]:
    """One forward of (B, T, d): logits (B, V) float32, and what stood at the sites of ``kinds``.

    ``writes`` are made in that run; where both fall on one site, what is kept is the written.
    """
    store: dict[tuple[Kind, int], Tensor] = {}

    def keep(kind: Kind, layer: int) -> Callable[[Tensor], None]:
        def see(x: Tensor) -> None:
            store[kind, layer] = x.detach().clone()

        return see

    sites = [Site(k, p.index) for p in internals.anatomy.layers for k in kinds]
    found = {s: keep(s.kind, s.layer) for s in sites if has(internals, s)}
    with torch.no_grad():
        hooks = _both(writing(internals, writes), _hanging(internals, found))
        logits = internals.logits(embeds, hooks=hooks)
    return logits, store


@contextmanager
def _both(*hooks: AbstractContextManager[Any]) -> Iterator[None]:
    """Hooks of one module run in the order in which they were hung."""
    with ExitStack() as stack:
        for one in hooks:
            stack.enter_context(one)
        yield


def writing(internals: Internals, writes: Sequence[Write]) -> AbstractContextManager[Any]:
    """Hooks for ``Internals.logits`` and ``resume`` that make the writes. Raises InputError."""
    grouped: dict[Site, list[Write]] = {}
    for w in writes:
        if not has(internals, w.site):
            raise InputError("site", f"layer {w.site.layer} has no such {w.site.kind}")
        grouped.setdefault(Site(w.site.kind, w.site.layer), []).append(w)

    def put(site: Site, mine: list[Write]) -> Callable[[Tensor], Tensor]:
        part = internals.anatomy.layers[site.layer]

        def change(x: Tensor) -> Tensor:
            x = x.clone()
            for w in mine:
                where = span(part, w.site.head) if site.kind == "heads" else slice(None)
                x[w.row, w.positions, where] = w.value.to(x.dtype)
            return x

        return change

    return _hanging(internals, {s: put(s, ws) for s, ws in grouped.items()})


See = Callable[[Tensor], "Tensor | None"]


@contextmanager
def _hanging(internals: Internals, found: Mapping[Site, See]) -> Iterator[None]:
    """Every function sees (B, T, width) at its site; a tensor that it returns takes the place."""
    with ExitStack() as hooks:
        for site, see in found.items():
            part = internals.anatomy.layers[site.layer]
            if site.kind == "residual":
                handle = part.block.register_forward_pre_hook(_before(see), with_kwargs=True)
            elif site.kind == "heads":
                assert part.out is not None
                handle = part.out.register_forward_pre_hook(_before(see), with_kwargs=True)
            else:
                module = part.attention if site.kind == "attention" else part.mlp
                assert module is not None
                handle = module.register_forward_hook(_after(see))
            hooks.callback(handle.remove)
        yield


def _before(see: See) -> Callable[..., Any]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = see(args[0] if args else kwargs["hidden_states"])
        if made is None:
            return None
        return ((made, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": made})

    return hook


def _after(see: See) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        made = see(output[0] if isinstance(output, tuple) else output)
        if made is None:
            return None
        return (made, *output[1:]) if isinstance(output, tuple) else made

    return hook
