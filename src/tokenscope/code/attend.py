"""Attention between pieces of the syntax: which statement looked at which.

With a(t, s) the recorded row of token t over the keys s < t, and f(t, g) the part of token t's
bytes that lies in node g, a node looks at another with

    A(g, h) = sum_t sum_s f(t, g) a(t, s) f(s, h)   /   sum_t f(t, g)

the attention of an average token of g that lands in h. Each occurrence is a node of its own; each
byte counts for the innermost node of the level, and what lies in none is the last node, "outside".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.code.align import Alignment
from tokenscope.code.groups import groups, innermost
from tokenscope.errors import CapacityError, InputError
from tokenscope.trace.regions import I64, LEVEL_BITS

F64 = NDArray[np.float64]
Normalise = Literal["mass", "row", "density"]
MAX_NODES = 512  # a picture of 512 x 512 cells is as much as can be read


@dataclass(frozen=True, eq=False)
class NodeMatrix:
    """``values`` float64 (G+1, G+1), rows look at columns; the last row and column are outside.

    ``region`` int64 (G,) into the regions, -1 for lines and kinds. ``label``, ``start``, ``end``:
    G of each. ``queries``, ``keys`` float64 (G+1,): tokens of each node that had a recorded row,
    and tokens that could be looked at. ``sink``, ``unrecorded`` float64 (G+1,): the mass that each
    row gave to the first token (where it was removed) and to keys that were not kept.
    Rows of nodes without a recorded row are NaN.
    """

    by: str
    normalise: Normalise
    region: I64
    label: tuple[str, ...]
    start: I64
    end: I64
    values: F64
    queries: F64
    keys: F64
    sink: F64
    unrecorded: F64


def shares(alignment: Alignment, by: str) -> tuple[F64, tuple[str, ...], I64, I64, I64]:
    """float64 (T, G+1): the part of each token in each node, the last being outside; each row sums
    to 1 (a token without bytes is outside). With the nodes' labels, regions, starts, ends."""
    tokens = len(alignment.offsets) - 1
    if by in LEVEL_BITS:
        inner = innermost(alignment, by)
        used = np.unique(inner[inner >= 0])
        code = np.where(inner < 0, len(used), np.searchsorted(used, inner))
        regions = alignment.regions
        label = tuple(regions[i].label for i in used.tolist())
        start, end, region = regions.start[used], regions.end[used], used.astype(np.int64)
    else:
        found = groups(alignment, by)
        code = np.full(len(alignment), len(found))
        for g in range(len(found)):
            code[found.order[found.low[g] : found.high[g]]] = g
        label = tuple(f"{k} {n}".strip() for k, n in zip(found.kind, found.name, strict=True))
        start, end, region = found.start, found.end, found.region
    nodes = len(label)
    if nodes > MAX_NODES:
        raise CapacityError(f"{nodes} nodes at level {by}; at most {MAX_NODES} fit a matrix")
    part = np.zeros((tokens, nodes + 1))
    size = np.diff(alignment.offsets)
    np.add.at(part, (alignment.token, code), alignment.weight / size[alignment.token])
    part[size == 0, nodes] = 1.0
    return part, label, region, start, end


def node_matrix(
    alignment: Alignment,
    row: Callable[[int], NDArray[np.float32]],
    queries: range,
    by: str = "statement",
    *,
    drop_sink: bool = True,
    normalise: Normalise = "mass",
    unrecorded: Callable[[int], float] | None = None,
) -> NodeMatrix:
    """The node x node matrix of the rows ``row(t)`` (float (t,)) for ``t`` in ``queries``.

    ``normalise``: ``mass``, the attention of an average token of the row's node (rows sum to at
    most 1); ``row``, each row rescaled to sum 1 over what is shown; ``density``, ``mass`` divided
    by the tokens of the column's node, so that large nodes do not win by size. ``drop_sink`` leaves
    the first token out as a key (Xiao 2023) and reports its mass. Raises InputError, UnknownName,
    and CapacityError beyond MAX_NODES.
    """
    if normalise not in ("mass", "row", "density"):
        raise InputError("normalise", "must be 'mass', 'row' or 'density'")
    part, label, region, start, end = shares(alignment, by)
    nodes = part.shape[1]
    total, sink, rest = np.zeros((nodes, nodes)), np.zeros(nodes), np.zeros(nodes)
    count = np.zeros(nodes)
    for t in queries:
        a = np.asarray(row(t), dtype=np.float64)
        if a.shape != (t,):
            raise InputError("row", f"row {t} must have {t} entries, got {a.shape}")
        mine = part[t]
        if drop_sink and t:
            sink += mine * a[0]
            a = a.copy()
            a[0] = 0.0
        if unrecorded is not None:
            rest += mine * unrecorded(t)
        total += np.outer(mine, a @ part[:t])
        count += mine
    keys = part[: queries.stop].sum(axis=0) if len(queries) else np.zeros(nodes)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = total / count[:, None]
        if normalise == "row":
            values = values / values.sum(axis=1, keepdims=True)
        elif normalise == "density":
            values = values / np.maximum(keys, 1.0)[None, :]
        sink, rest = sink / count, rest / count
    values[count == 0] = np.nan
    return NodeMatrix(
        by, normalise, region, label, start, end, values, count, keys, sink, rest
    )  # fmt: skip
