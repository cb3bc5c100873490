"""Who carries an edit out: on the logits before sampling, or inside the model while it reads.

A standing edit (``trace.edits``) is a value; here its kind has an applier. ``LOGITS``: edit ->
a function over the logits. ``INNER``: edit -> a change that goes with ``Feed.changes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokenscope.backends.protocol import ModelInfo
from tokenscope.errors import AbilityError, InputError
from tokenscope.registry import Registry
from tokenscope.trace.edits import Ban, Bias, Edit

# float32 (V,) logits and the ids so far -> logits; must not change its argument in place
Processor = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
LOGITS: Registry[Callable[[Any], Processor]] = Registry("edit of logits")
INNER: Registry[Callable[[Any], Any]] = Registry("edit inside the model")


@dataclass(frozen=True, slots=True)
class Applied:
    """Edits made ready: ``processors`` in their order, ``changes`` for every feed.

    ``inner``: the edits behind ``changes``; a memory that was filled under them fits no other run.
    """

    processors: tuple[Processor, ...] = ()
    changes: tuple[Any, ...] = ()
    inner: tuple[Edit, ...] = ()


NONE = Applied()


def prepared(edits: Sequence[Edit], info: ModelInfo) -> Applied:
    """Appliers of standing edits. Raises AbilityError for a kind that nothing here carries out."""
    processors, changes, inner = [], [], []
    for edit in edits:
        if not isinstance(edit, Edit):
            raise InputError("edits", "must hold edits (Ban, Bias, ...)")
        top = max(getattr(edit, "ids", None) or (0,))
        if info.vocab and top >= info.vocab:
            raise InputError("edits", f"{edit.kind}: token id {top} is not in 0..{info.vocab - 1}")
        if edit.kind in LOGITS:
            processors.append(LOGITS.get(edit.kind)(edit))
        elif edit.kind in INNER:
            changes.append(INNER.get(edit.kind)(edit))
            inner.append(edit)
        else:
            kind = getattr(edit, "name", edit.kind)
            raise AbilityError(f"an edit of the kind {str(kind)[:40]!r} cannot be applied here")
    return Applied(tuple(processors), tuple(changes), tuple(inner))


@LOGITS.register(Bias.kind)
def bias(edit: Bias) -> Processor:
    """Adds the amount to the logit of each id."""

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        out = logits.clone()
        out[list(set(edit.ids))] += edit.amount
        return out

    return apply


@LOGITS.register(Ban.kind)
def ban(edit: Ban) -> Processor:
    """Puts the logit of each id to -inf."""

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        out = logits.clone()
        out[list(edit.ids)] = -torch.inf
        return out

    return apply
