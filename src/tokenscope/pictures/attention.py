"""Recorded attention: a matrix of who looked at whom, and every head at one token."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError
from tokenscope.pictures.paper import framed, head, safe, step
from tokenscope.trace.attention import Attention
from tokenscope.trace.drawn import PICTURES, Picture
from tokenscope.trace.record import Trace

Pick = int | Literal["mean", "max"]
MOST = 64  # rows and columns of a matrix
STYLE = (
    ".tks .grid td,.tks .grid th{font-size:10px;padding:0 3px;min-width:13px;height:15px}"
    ".tks .grid th.up{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;"
    "height:auto;padding:3px 0}"
    ".tks .grid td.cut{border-left:1px solid var(--line)}"
)


def matrix(
    trace: Trace, layer: Pick = "mean", head_: Pick = "mean", first: int | None = None,
    last: int | None = None, sink: bool = False,
) -> Picture:  # fmt: skip
    """Row: a decoded token; column: an earlier token; colour: what the step that chose the one
    gave to the other, in one ``layer`` and ``head_`` (numbers, or mean or max over them).

    ``first``, ``last``: the tokens shown (default: the recorded ones, the last 64 at most).
    ``sink``: show the first token as a key too, on which heads park what they have no use for.
    The scale ends at the largest weight shown. Raises InputError where nothing was recorded.
    """
    record = _record(trace)
    begin = max(record.first, 1) if first is None else first
    end = min(len(trace), record.first + record.count) - 1 if last is None else last
    begin = max(begin, end - MOST + 1)
    rows = [t for t in range(begin, end + 1) if record.has(t) and t > 0]
    if not rows:
        raise InputError("first", f"no rows recorded there; recorded: {record.first}..")
    keys = list(range(max(0 if sink else 1, rows[0] - MOST // 2), rows[-1]))[-MOST:]
    table = np.full((len(rows), len(keys)), np.nan, dtype=np.float32)
    for i, t in enumerate(rows):
        row = _picked(record, t, layer, head_)
        known = [j for j, k in enumerate(keys) if k < t]
        table[i, known] = row[[keys[j] for j in known]]
    top = float(np.nanmax(table)) if np.isfinite(table).any() else 0.0
    up = "".join(f'<th class="up">{_name(trace, k)}</th>' for k in keys)
    lines = "".join(
        f"<tr><th>{_name(trace, t)}</th>"
        + "".join(_cell(trace, t, k, float(v), top) for k, v in zip(keys, line, strict=True))
        + "</tr>"
        for t, line in zip(rows, table, strict=True)
    )
    what = f"layer {layer}, head {head_}" if layer != "mean" or head_ != "mean" else "mean of all"
    form = "the heaviest keys of each row" if record.form == "top" else "all keys"
    facts = head(f"attention, {what}", f"tokens {rows[0]}..{rows[-1]}", form, legend=_legend(top))
    inside = f'{facts}<table class="grid"><tr><th></th>{up}</tr>{lines}</table>'
    return Picture("Attention", framed(inside, STYLE))


def heads(trace: Trace, t: int | None = None, sink: bool = False) -> Picture:
    """What every head looked at most when token ``t`` was chosen: a cell per layer and head, with
    that token and its weight. ``sink``: let it be the first token too. ``t``: the last recorded.
    Raises InputError where nothing was recorded."""
    record = _record(trace)
    at = min(len(trace), record.first + record.count) - 1 if t is None else t
    block = record.block(at)
    if not sink:
        block = block.copy()
        block[:, :, 0] = 0.0
    best = block.argmax(axis=2)
    weight = np.take_along_axis(block, best[:, :, None], 2)[:, :, 0]
    top = float(weight.max()) if weight.size else 0.0
    up = "".join(f"<th>{h}</th>" for h in range(record.heads))
    lines = "".join(
        f"<tr><th>layer {layer}</th>"
        + "".join(
            f'<td class="{step(float(w) / top if top else None)}" title="layer {layer}, head {h}: '
            f'{w:.3f} on token {k}">{_name(trace, int(k)) if w > 0 else ""} {w:.2f}</td>'
            for h, (k, w) in enumerate(zip(best[i], weight[i], strict=True))
        )
        + "</tr>"
        for i, layer in enumerate(record.layers)
    )
    chosen = f"token {at}, {trace.tokens[at].text!r}"
    facts = head("heads", chosen, "the first token left out" if not sink else "",
                 legend=_legend(top))  # fmt: skip
    inside = f'{facts}<table class="grid"><tr><th></th>{up}</tr>{lines}</table>'
    return Picture(f"Heads at {chosen}", framed(inside, STYLE))


def _record(trace: Trace) -> Attention:
    if trace.attention is None or not trace.attention.count:
        raise InputError("attention", "was not recorded; ask for it with attention='top' or 'full'")
    return trace.attention


def _picked(record: Attention, t: int, layer: Pick, head_: Pick) -> NDArray[np.float32]:
    """(t,): the row of token ``t``; a layer by its number, a head by its index."""
    block = record.block(t)
    rows: NDArray[np.float32]
    if isinstance(layer, int):
        if layer not in record.layers:
            raise InputError("layer", f"layers with attention: {list(record.layers)}")
        rows = block[record.layers.index(layer)]
    else:
        rows = _over(block, layer)
    if not isinstance(head_, int):
        return _over(rows, head_)
    if not 0 <= head_ < record.heads:
        raise InputError("head_", f"must lie in 0..{record.heads - 1}")
    row: NDArray[np.float32] = rows[head_]
    return row


def _over(values: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    if how not in ("mean", "max"):
        raise InputError("layer", "must be a number, mean or max")
    made: NDArray[np.float32] = values.mean(axis=0) if how == "mean" else values.max(axis=0)
    return made


def _name(trace: Trace, t: int) -> str:
    return safe(trace.tokens[t].text.replace("\n", "\u23ce").replace(" ", "\u00b7")[:12])


def _cell(trace: Trace, t: int, k: int, value: float, top: float) -> str:
    if not np.isfinite(value):
        return "<td></td>"
    mark = step(value / top) if top else ""
    words = safe(f"{trace.tokens[t].text!r} looked at {trace.tokens[k].text!r}: {value:.3f}")
    return f'<td class="{mark}" title="{words}"></td>'


def _legend(top: float) -> str:
    steps = "".join(f'<i class="q{i}"></i>' for i in range(10))
    return f"weight 0 {steps} {top:.2f}"


PICTURES.add("attention", matrix)
PICTURES.add("heads", heads)
