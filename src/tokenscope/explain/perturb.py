"""Attribution by perturbation: occlusion of tokens and regions, knockout of attention edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenscope.backends.hf.attention_kernel import Edge
from tokenscope.backends.hf.internals import Patch
from tokenscope.control import QUIET, Control
from tokenscope.explain.gradients import F32, Attribution
from tokenscope.explain.target import Asked, batch_rows

I64 = NDArray[np.int64]


CACHE_BYTES = 128 * 2**20
# up to this many tokens each is taken out alone; a longer text goes by lines first
WHOLE = 256


def cached_rows(cache: Any, length: int) -> int:
    """How many copies of the first ``length`` positions of a cache fit into CACHE_BYTES."""
    if cache is None:
        return 1 << 30
    whole: int = sum(c.keys.nbytes + c.values.nbytes for c in cache.layers)
    per = whole * length // max(1, int(cache.get_seq_length()))
    return max(1, CACHE_BYTES // max(1, per))


def occlusion(asked: Asked, control: Control = QUIET) -> Attribution:
    """v_i = f(x) - f(x with token i replaced by the mean embedding), float32 (at,), nats.

    In a text of more than ``WHOLE`` tokens lines are taken out first, and then the tokens of the
    lines whose loss costs most; a token of another line gets an even share of its line's.
    """
    if asked.n <= WHOLE or len(asked.lines) < 2:
        drops = occlude(asked, [np.asarray([i]) for i in range(asked.n)], control)
        return Attribution(drops, asked.value())
    lost = occlude(asked, [np.arange(a, b) for a, b in asked.lines], control)
    values = np.zeros(asked.n, dtype=np.float32)
    opened: list[int] = []
    last = len(lost) - 1  # the line that is being written is always looked into
    for i in sorted(range(len(lost)), key=lambda i: (i != last, -lost[i])):
        a, b = asked.lines[i]
        values[a:b] = lost[i] / (b - a)
        if len(opened) < WHOLE // 2:
            opened += range(a, min(b, a + WHOLE))
    values[opened] = occlude(asked, [np.asarray([t]) for t in opened], control)
    note = (
        f"{len(asked.lines)} lines were taken out, then each of the {len(opened)} tokens of the "
        "lines whose loss costs most; other tokens show an even share of their line's."
    )
    return Attribution(values, asked.value(), note=note)


def occlude(asked: Asked, groups: Sequence[I64], control: Control = QUIET) -> F32:
    """f(x) - f(x without group g), float32 (G,): each group is an array of token indices.

    A group that was taken out before in this explanation is not run again.
    """
    known = asked.drops()
    keys = [tuple(int(t) for t in g) for g in groups]
    fresh = [k for k in dict.fromkeys(keys) if k not in known]
    made = _occlude(asked, fresh, control)
    known.update(zip(fresh, made.tolist(), strict=True))
    return np.asarray([known[k] for k in keys], dtype=np.float32)


def _occlude(asked: Asked, groups: Sequence[tuple[int, ...]], control: Control) -> F32:
    """In batches that share the cache of the tokens before the batch's first one."""
    embeds = asked.embeds()
    mean = asked.internals.mean_embedding()
    whole = asked.value()
    out = np.zeros(len(groups), dtype=np.float32)
    first = [min(g) if g else asked.n for g in groups]
    order = sorted(range(len(groups)), key=lambda g: first[g])
    cache = asked.prefix() if groups else None
    done = 0
    while done < len(order):
        control.step(done, len(order), "occlusion")
        # the last position always runs again: its logits are the answer
        start = min(first[order[done]], asked.n - 1) if cache is not None else 0
        size = min(batch_rows(asked.n - start), cached_rows(cache, start))
        part = order[done : done + size]
        rows = embeds.expand(len(part), -1, -1).clone()
        for row, g in enumerate(part):
            rows[row, list(groups[g])] = mean
        if cache is not None:
            logits = asked.internals.resume(cache, start, rows[:, start:])
            f = asked.target.of(logits)
        else:
            f = asked.values(rows)
        out[part] = whole - f.float().cpu().numpy()
        done += len(part)
    control.step(len(order), len(order), "occlusion")
    return out


def attention_knockout(asked: Asked, control: Control = QUIET) -> Attribution:
    """v_j = f(x) - f(x where the last query cannot read key j), float32 (at,), nats.

    All layers and heads at once (Geva 2023). Only the last position changes, so the rest comes
    from one cached forward.
    """
    last = asked.n - 1
    edges = [Edge(last, key) for key in range(asked.n)]
    return Attribution(cut_edges(asked, edges, control), asked.value())


def cut_edges(asked: Asked, edges: Sequence[Edge], control: Control = QUIET) -> F32:
    """f(x) - f(x without edge), float32 (E,). Edges of the last query reuse a cached prefix."""
    embeds, last = asked.embeds(), asked.n - 1
    cache = asked.prefix() if all(e.query == last for e in edges) else None
    whole = asked.value()
    out = np.zeros(len(edges), dtype=np.float32)
    # a cached row copies the keys of the whole prefix, a plain one runs it
    size = min(64, cached_rows(cache, last)) if cache is not None else batch_rows(asked.n)
    for start in range(0, len(edges), size):
        control.step(start, len(edges), "attention edges")
        part = list(enumerate(edges[start : start + size]))
        rows = embeds.expand(len(part), -1, -1)
        if cache is not None:
            f = asked.target.of(asked.internals.resume(cache, last, rows[:, last:], part))
        else:
            with torch.no_grad():
                f = asked.target.of(asked.internals.logits(rows, part))
        out[start : start + len(part)] = whole - f.float().cpu().numpy()
    control.step(len(edges), len(edges), "attention edges")
    return out


def ablate(asked: Asked, patches: Sequence[Patch], control: Control = QUIET) -> F32:
    """f(x) - f(x with the part ablated), float32 (P,), nats: one batch row per part."""
    embeds = asked.embeds()
    whole = asked.value()
    out = np.zeros(len(patches), dtype=np.float32)
    size = batch_rows(asked.n)
    for start in range(0, len(patches), size):
        control.step(start, len(patches), "ablation")
        part = list(enumerate(patches[start : start + size]))
        with torch.no_grad():
            rows = embeds.expand(len(part), -1, -1)
            f = asked.target.of(asked.internals.logits(rows, part))
        out[start : start + len(part)] = whole - f.float().cpu().numpy()
    control.step(len(patches), len(patches), "ablation")
    return out
