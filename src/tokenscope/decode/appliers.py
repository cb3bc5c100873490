"""Who carries an edit out: on the logits before sampling, or inside the model while it reads.

A standing edit (``trace.edits``) is a value; here its kind has an applier. ``LOGITS``: (edit,
scene) -> a function over the logits: a *mask* puts to -inf what may not come. ``JUDGES``: the same,
for masks that ask about one token at a time and so come after all others. ``INNER``: (edit, scene)
-> a change that goes with ``Feed.changes``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.decode.scene import Scene
from tokenscope.errors import AbilityError, InputError
from tokenscope.registry import Registry
from tokenscope.trace.edits import Ban, Bias, Edit, Standing

# float32 (V,) logits and the ids so far -> logits; must not change its argument in place
Processor = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
LOGITS: Registry[Callable[[Any, Scene], Processor]] = Registry("edit of logits")
JUDGES: Registry[Callable[[Any, Scene], Processor]] = Registry("edit that judges tokens")
INNER: Registry[Callable[[Any, Scene], Any]] = Registry("edit inside the model")
MASKS_KEPT = 256  # of one edit: a state that comes again finds its mask made


@dataclass(frozen=True, slots=True)
class Applied:
    """Edits made ready: ``processors`` in their order, ``changes`` for every feed.

    ``inner``: the edits behind ``changes``; a memory that was filled under them fits no other run.
    """

    processors: tuple[Processor, ...] = ()
    changes: tuple[Any, ...] = ()
    inner: tuple[Edit, ...] = ()


NONE = Applied()


def prepared(edits: Sequence[Edit], scene: Scene) -> Applied:
    """Appliers of standing edits, judges last. Raises AbilityError for a kind that nothing here
    carries out, InputError where an edit makes no sense for this run."""
    processors, judges, changes, inner = [], [], [], []
    vocab = scene.info.vocab
    for edit in edits:
        if not isinstance(edit, Edit):
            raise InputError("edits", "must hold edits (Ban, Bias, ...)")
        top = max(getattr(edit, "ids", None) or (0,))
        if vocab and top >= vocab:
            raise InputError("edits", f"{edit.kind}: token id {top} is not in 0..{vocab - 1}")
        if edit.kind in LOGITS:
            processors.append(LOGITS.get(edit.kind)(edit, scene))
        elif edit.kind in JUDGES:
            judges.append(JUDGES.get(edit.kind)(edit, scene))
        elif edit.kind in INNER:
            changes.append(INNER.get(edit.kind)(edit, scene))
            inner.append(edit)
        else:
            kind = getattr(edit, "name", edit.kind)
            raise AbilityError(f"an edit of the kind {str(kind)[:40]!r} cannot be applied here")
    return Applied((*processors, *judges), tuple(changes), tuple(inner))


def while_it_holds(edit: Standing, process: Processor) -> Processor:
    """The processor, at the positions where the edit is in force."""

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        return process(logits, seen) if edit.holds(len(seen)) else logits

    return apply


class Mask:
    """A processor that allows some tokens; the same state of its automaton gives the same mask.

    ``state`` gives what the mask depends on (None: everything is allowed); ``make`` bool (V,).
    """

    def __init__(
        self, state: Callable[[Sequence[int]], Hashable],
        make: Callable[[Any], NDArray[np.bool_]],
    ) -> None:  # fmt: skip
        self._state = state
        self._make = make
        self._kept: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __call__(self, logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        """The logits with -inf where a token is not allowed."""
        state = self._state(seen)
        if state is None:
            return logits
        if state not in self._kept:
            if len(self._kept) >= MASKS_KEPT:
                self._kept.popitem(last=False)
            self._kept[state] = torch.from_numpy(~self._make(state)).to(logits.device)
        return logits.masked_fill(self._kept[state][: logits.shape[0]], -torch.inf)


def within(ids: Sequence[int], logits: torch.Tensor) -> list[int]:
    """The ids that the logits reach: a server's top may end before."""
    return [i for i in set(ids) if i < logits.shape[0]]


@LOGITS.register(Bias.kind)
def bias(edit: Bias, scene: Scene) -> Processor:
    """Adds the amount to the logit of each id."""

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        out = logits.clone()
        out[within(edit.ids, logits)] += edit.amount
        return out

    return while_it_holds(edit, apply)


@LOGITS.register(Ban.kind)
def ban(edit: Ban, scene: Scene) -> Processor:
    """Puts the logit of each id to -inf."""

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        out = logits.clone()
        out[within(edit.ids, logits)] = -torch.inf
        return out

    return while_it_holds(edit, apply)


for _kind in ("bias_text", "ban_text", "require"):
    LOGITS.promise(_kind, "tokenscope.decode.strings")
for _kind in ("regex", "json_schema", "grammar"):
    LOGITS.promise(_kind, "tokenscope.decode.grammars")
for _kind in ("viable", "ban_code"):
    JUDGES.promise(_kind, "tokenscope.decode.judged")
for _kind in ("ablate", "attend", "steer", "patch"):
    INNER.promise(_kind, "tokenscope.decode.inside")
