"""Edits inside the model made ready: what stands in is computed once, when a run begins."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tokenscope.backends.hf.anatomy import Anatomy
from tokenscope.backends.hf.changes import Instead, Place, Weighed, check, part_of, stood
from tokenscope.backends.protocol import internals
from tokenscope.code.detect import detect
from tokenscope.code.parse import parse
from tokenscope.decode.appliers import INNER
from tokenscope.decode.scene import Scene
from tokenscope.errors import AbilityError, InputError
from tokenscope.trace.inside import Ablate, Attend, Patch, Steer
from tokenscope.trace.regions import CATEGORIES

MOST_REFERENCE = 4096  # tokens


def anatomy_of(scene: Scene) -> Anatomy:
    """Raises AbilityError where the model's inside cannot be changed."""
    if not scene.backend.abilities.changes:
        raise AbilityError("this model's inside cannot be changed while it decodes")
    found: Anatomy = scene.backend.anatomy  # type: ignore[attr-defined]
    return found


def recalled(scene: Scene, ids: tuple[int, ...], place: Place, layer: int, head: int) -> Tensor:
    """(T, width): what a part gave in a run over ``ids`` without any edit. Kept for the next."""
    key = (ids, place, layer, head)
    if key not in scene.recalled:
        anatomy = anatomy_of(scene)
        part = part_of(anatomy, layer)
        check([Instead(place, layer, lambda t: True, lambda t: torch.empty(0), head)], anatomy)
        model = internals(scene.backend).model
        with scene.turn:
            found = stood(model, part, place, ids)
        if place == "head":
            found = found[:, head * part.head_dim : (head + 1) * part.head_dim]
        while len(scene.recalled) >= 16:
            scene.recalled.pop(next(iter(scene.recalled)))
        scene.recalled[key] = found
    return scene.recalled[key]  # type: ignore[no-any-return]


@INNER.register(Ablate.kind)
def ablate(edit: Ablate, scene: Scene) -> Instead:
    """Raises InputError for a part that is not there or a reference that is too short."""
    place: Place = edit.part  # type: ignore[assignment]
    change = lambda value: Instead(place, edit.layer, edit.holds, value, edit.head)
    zero = torch.zeros(())
    made = change(lambda t: zero)
    check([made], anatomy_of(scene))
    if edit.how == "zero":
        return made
    ids = scene.vocabulary.encode(edit.reference).ids.tolist()[:MOST_REFERENCE]
    if len(ids) < 2:
        raise InputError("reference", "needs at least two tokens")
    held = recalled(scene, tuple(int(i) for i in ids), place, edit.layer, edit.head)[1:]
    if edit.how == "mean":
        mean = held.double().mean(0).to(held.dtype)
        return change(lambda t: mean)

    @lru_cache(maxsize=1 << 16)
    def drawn(position: int) -> int:
        return int(np.random.default_rng((edit.seed, position)).integers(len(held)))

    return change(lambda t: held[drawn(t)])


@INNER.register(Steer.kind)
def steer(edit: Steer, scene: Scene) -> Instead:
    """Raises MissingError where the vector is not kept, InputError for another model's."""
    held = scene.vectors[edit.vector]
    if held.digest != edit.vector or held.model_digest != scene.info.model_digest:
        raise InputError("vector", "is a steering vector of another model, or was changed")
    value = torch.from_numpy(np.asarray(held.values * np.float32(edit.strength)))
    made = Instead("residual", held.layer, edit.holds, lambda t: value, adds=True)
    check([made], anatomy_of(scene))
    return made


@INNER.register(Patch.kind)
def patch(edit: Patch, scene: Scene) -> Instead:
    """Raises InputError for a part that is not there."""
    place: Place = edit.part  # type: ignore[assignment]
    if scene.info.vocab and max(edit.source) >= scene.info.vocab:
        raise InputError("source", f"a token id is not in 0..{scene.info.vocab - 1}")
    ids = edit.source[: edit.from_token + 1]
    value = recalled(scene, ids, place, edit.layer, edit.head)[edit.from_token]
    return Instead(place, edit.layer, edit.holds, lambda t: value, edit.head)


@INNER.register(Attend.kind)
def attend(edit: Attend, scene: Scene) -> Weighed:
    """Raises InputError where nothing of what was given is meant."""
    keys = sorted({t for t in _meant(edit, scene) if t < scene.begin})
    if not keys:
        raise InputError("edits", "attend: none of the given tokens is meant by it")
    made = Weighed(
        torch.tensor(keys), float(edit.factor), edit.holds, frozenset(edit.layers), edit.heads
    )
    check([made], anatomy_of(scene))
    return made


def _meant(edit: Attend, scene: Scene) -> Iterator[int]:
    if edit.tokens:
        for first, end in edit.tokens:
            yield from range(first, min(end, scene.begin))
        return
    data, offsets = scene.given.data, scene.given.offsets
    for start, end in _spans(edit, data, scene.language):
        first = int(np.searchsorted(offsets[1:], start, side="right"))
        last = int(np.searchsorted(offsets[:-1], end, side="left"))
        yield from (t for t in range(first, last) if offsets[t + 1] > offsets[t])


def _spans(edit: Attend, data: bytes, language: str) -> list[tuple[int, int]]:
    if edit.text:
        wanted, found, at = edit.text.encode(), [], 0
        while (at := data.find(wanted, at)) >= 0:
            found.append((at, at + len(wanted)))
            at += 1
        return found
    regions = parse(data, language or detect(data))
    kinds = np.array([k == edit.region for k in regions.kinds])[regions.kind]
    if edit.region in CATEGORIES:
        kinds |= regions.leaf & (regions.category == CATEGORIES.index(edit.region))
    return [(int(regions.start[i]), int(regions.end[i])) for i in np.flatnonzero(kinds)]
