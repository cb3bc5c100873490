"""Strings that must, must not or had better come: over bytes, whatever they are cut into."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.decode.appliers import LOGITS, Mask, Processor, while_it_holds
from tokenscope.decode.automata import Automaton, automaton
from tokenscope.decode.scene import Follow, Scene
from tokenscope.errors import InputError
from tokenscope.trace.constraints import BanText, BiasText, Require

FAR = 1 << 20  # tokens: never


def following(
    found: Automaton, scene: Scene, start: int = 0, remembers: bool = False
) -> Follow[int]:  # fmt: skip
    """The automaton's state after the run so far; of what was given, from token ``start`` on.
    ``remembers``: a state may hang on all bytes, not on the last few alone."""
    data = scene.bytes_from(start)
    first = found.run(data if remembers else data[max(0, len(data) - found.reach) :])
    pieces = scene.pieces.pieces
    return Follow(scene.begin, lambda: first, lambda s, i: found.run(pieces[i], s))


@LOGITS.register(BanText.kind)
def ban_text(edit: BanText, scene: Scene) -> Processor:
    """Bans every token in whose bytes a string comes to its end."""
    found = automaton([s.encode() for s in edit.strings])
    state, table = following(found, scene), scene.pieces

    def make(at: int) -> NDArray[np.bool_]:
        return np.equal(table.walk(found.table, at, found.hits)[1], 0)

    return while_it_holds(edit, Mask(state.at, make))


@LOGITS.register(BiasText.kind)
def bias_text(edit: BiasText, scene: Scene) -> Processor:
    """Adds amount * (strings that end in the token + the share that it brings one further).

    With phi(s) the part of the string that stands at the end of the text, a token that leads from
    s to s' and in which c strings end gets amount * (c + phi(s') - phi(s)): over any sequence of
    tokens that adds up to amount * (occurrences + phi at the end).
    """
    parts = [_share(automaton([s.encode()]), scene) for s in dict.fromkeys(edit.strings)]

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        total = sum(part(seen) for part in parts)
        added = torch.from_numpy(np.asarray(total * edit.amount, dtype=np.float32))
        return logits + added.to(logits.device, logits.dtype)[: logits.shape[0]]

    return while_it_holds(edit, apply)


def _share(found: Automaton, scene: Scene) -> Callable[[Sequence[int]], NDArray[np.float64]]:
    state, table = following(found, scene), scene.pieces
    # where the string has just ended, only what it shares with its own beginning is left
    depth = np.where(found.hits, found.depth[found.border], found.depth)
    phi = depth / found.reach
    made: dict[int, NDArray[np.float64]] = {}

    def share(seen: Sequence[int]) -> NDArray[np.float64]:
        at = state.at(seen)
        if at not in made:
            after, ended = table.walk(found.table, at, found.hits)
            made[at] = ended + phi[after] - phi[at]
        return made[at]

    return share


@LOGITS.register(Require.kind)
def require(edit: Require, scene: Scene) -> Processor:
    """Allows a token only where the rest of the string still fits into the tokens that are left."""
    if scene.stop:
        raise InputError("edits", "require: stop strings could end the run before; leave them out")
    edit = _fixed(edit, scene)
    found, table = automaton([edit.string.encode()]), scene.pieces
    whole, once = found.reach, edit.within is not None
    if once:  # it stays fulfilled
        found.table[whole] = whole
    steps = np.stack([table.walk(found.table, s)[0] for s in range(whole + 1)])
    need = _needed(steps, whole, table.silent)
    state = following(found, scene, edit.at, once)
    deadline = edit.until or scene.end
    left = deadline - scene.begin
    if need[state.at(())] > max(left, 0):  # a branch may begin after it was kept
        raise InputError(
            "edits", f"require: {left} tokens are left and the string takes {need[state.at(())]}"
        )
    stops = np.array(sorted(i for i in scene.stop_ids if i < len(table)), dtype=np.int64)

    def where(seen: Sequence[int]) -> tuple[int, int] | None:
        at = state.at(seen)
        if once and at == whole:
            return None
        return at, deadline - len(seen) - 1

    def make(now: tuple[int, int]) -> NDArray[np.bool_]:
        at, after = now
        allowed: NDArray[np.bool_] = need[steps[at]] <= after
        allowed[stops] = not once and at == whole
        return allowed

    return while_it_holds(edit, Mask(where, make))


def _fixed(edit: Require, scene: Scene) -> Require:
    made = edit.anchored(scene.begin, scene.end)
    assert isinstance(made, Require)
    return made


def _needed(steps: NDArray[np.int32], whole: int, silent: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(states,): the fewest tokens that lead from each state to ``whole``."""
    edges = [np.unique(row[~silent]) for row in steps]
    need = np.full(whole + 1, FAR, dtype=np.int32)
    need[whole] = 0
    for _ in range(whole + 1):
        better = np.array([need[e].min(initial=FAR) + 1 for e in edges], dtype=np.int32)
        better[whole] = 0
        if (better >= need).all():
            break
        need = np.minimum(need, better)
    return need
