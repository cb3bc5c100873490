"""A column over the syntax tree: every region a bar over the text that it covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenscope.pictures.paper import framed, head, legend, safe, share, step
from tokenscope.trace.drawn import PICTURES, Picture
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import LEVEL_BITS, Regions

LEAST_WIDTH = 0.15  # percent: what is narrower is left out, and counted
HEIGHT = 19
SHOWN = ("file", "class", "function", "block", "statement", "expression")
STYLE = (
    ".tks .icicle{position:relative;min-width:720px}"
    ".tks .icicle div{position:absolute;height:18px;overflow:hidden;white-space:nowrap;"
    "font:10px/18px ui-monospace,monospace;padding:0 2px;border-right:1px solid var(--paper)}"
)


def icicle(trace: Trace, column: str = "surprisal", levels: tuple[str, ...] = SHOWN) -> Picture:
    """Left to right the text, top to bottom the nesting of its syntax; colour: the mean of
    ``column`` over a region, weighted by bytes (as in ``trace.rollup``). Only generated
    tokens count, all where none was generated.

    ``levels``: which regions are drawn. Raises UnknownName.
    """
    spec = trace.column_of(column).spec
    regions = trace.regions
    total, weight = sums(trace, column)
    bits = sum(LEVEL_BITS[n] for n in levels if n in LEVEL_BITS)
    kept = np.flatnonzero((regions.level & bits) > 0)
    depths, deepest, hidden, parts = _depths(regions, kept), 0, 0, []
    size = max(regions.size, 1)
    for i, depth in zip(kept.tolist(), depths, strict=True):
        start, end = int(regions.start[i]), int(regions.end[i])
        width = 100 * (end - start) / size
        if width < LEAST_WIDTH:
            hidden += 1
            continue
        w = float(weight[end] - weight[start])
        mean = float(total[end] - total[start]) / w if w > 0 else float("nan")
        deepest = max(deepest, depth)
        region = regions[i]
        excerpt = trace.tokens.data[start : min(end, start + 60)].decode("utf-8", "replace")
        said = f"{mean:.3g} {spec.unit} over {w:.0f} bytes" if w > 0 else "given, not generated"
        words = safe(f"{region.label}: {said}\n{excerpt}")
        place = f"left:{100 * start / size:.3f}%;width:{width:.3f}%;top:{depth * HEIGHT}px"
        mark = step(share(spec, mean)) or "given"
        name = safe(region.label)
        parts.append(f'<div class="{mark}" style="{place}" title="{words}">{name}</div>')
    height = (deepest + 1) * HEIGHT
    note = f"{hidden} regions too narrow to draw" if hidden else ""
    facts = head(f"mean {column} by syntax", regions.language, note, legend=legend(spec))
    inside = f'{facts}<div class="icicle" style="height:{height}px">{"".join(parts)}</div>'
    return Picture(f"{column} over the syntax", framed(inside, STYLE))


def sums(trace: Trace, column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64 (bytes + 1,) each: running sums over bytes of the value of a byte's token, and of 1.
    Tokens without a value, or given before generated ones, count as nothing in both."""
    sizes = np.diff(trace.tokens.offsets)
    values = trace.column(column).astype(np.float64)
    counted = np.isfinite(values) & (sizes > 0)
    if trace.n_prompt < len(trace):
        counted[: trace.n_prompt] = False
    each = counted.astype(np.float64)
    total = np.repeat(each * np.where(counted, values, 0.0), sizes)
    zero = np.zeros(1)
    return (
        np.concatenate([zero, np.cumsum(total)]),
        np.concatenate([zero, np.cumsum(np.repeat(each, sizes))]),
    )


def _depths(regions: Regions, kept: NDArray[np.int64]) -> list[int]:
    """How many kept regions each kept one lies in."""
    own = np.full(len(regions), -1, dtype=np.int64)
    marked = np.zeros(len(regions), dtype=bool)
    marked[kept] = True
    for i in range(len(regions)):  # pre-order: a parent comes before its children
        parent = int(regions.parent[i])
        above = int(own[parent]) if parent >= 0 else -1
        own[i] = above + 1 if marked[i] else above
    return [int(own[i]) for i in kept]


PICTURES.add("icicle", icicle)
