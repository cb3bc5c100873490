"""Roll-up: a column of the tokens, aggregated over groups of the syntax.

For a group with tokens t, v_t the column, w_t the bytes that token and group share, b_t the bytes
of the token (AST aggregation: Palacio 2024, arXiv 2407.08983):

    mean  sum w v / sum w                    weighted by overlapping bytes
    std   sqrt(sum w (v - mean)^2 / sum w)   the spread, weighted alike
    sum   sum v w / b                        a split token counts in part
    min, max, top (mean of the k largest), quantiles: over the tokens that overlap, each once

Tokens whose value is not finite enter nothing. Prompt and generated tokens are never mixed unless
asked: ``part`` says which enter, and how many of each overlap is always reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenscope.code.align import Alignment
from tokenscope.code.groups import Group, Groups, groups
from tokenscope.code.segments import ordered, reduce, runs, sums
from tokenscope.errors import InputError
from tokenscope.trace.regions import I64

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["generated", "prompt", "all"]
F64 = NDArray[np.float64]
AGGREGATES = ("mean", "std", "min", "max", "sum", "top")


@dataclass(frozen=True, eq=False)
class Rollup:
    """Aggregates of one column over G groups; float64 (G,), NaN where no token entered.

    ``count``: tokens that entered. ``generated``, ``prompt``: tokens of each part that overlap,
    defined or not. ``undefined``: tokens of the part with no value. ``bytes``: size of the group.
    ``quantiles`` float64 (G, Q).
    """

    column: str
    by: str
    part: Part
    groups: Groups
    mean: F64
    std: F64
    min: F64
    max: F64
    sum: F64
    top: F64
    count: I64
    generated: I64
    prompt: I64
    undefined: I64
    bytes: I64
    at: tuple[float, ...]
    quantiles: F64

    def __len__(self) -> int:
        return len(self.groups)

    def frame(self) -> pd.DataFrame:
        """One row per group, in the order of the text: what it is, where, how many, how much."""
        import pandas as pd

        g = self.groups
        table: dict[str, object] = {
            "region": g.region, "kind": g.kind, "name": g.name, "start": g.start, "end": g.end,
            "bytes": self.bytes, "generated": self.generated, "prompt": self.prompt,
            "count": self.count, "undefined": self.undefined,
        }  # fmt: skip
        table |= {name: getattr(self, name) for name in AGGREGATES}
        table |= {f"q{100 * q:g}": self.quantiles[:, i] for i, q in enumerate(self.at)}
        return pd.DataFrame(table)


def rollup(
    alignment: Alignment,
    values: ArrayLike,
    by: str = "statement",
    *,
    n_prompt: int = 0,
    part: Part = "generated",
    group: Group = "region",
    top: int = 3,
    quantiles: Sequence[float] = (0.25, 0.5, 0.75),
    column: str = "",
) -> Rollup:
    """Aggregate ``values`` (T,) over the groups of level ``by``.

    ``n_prompt`` is the index of the first generated token. Raises InputError on a wrong shape,
    part, ``top`` or quantile, and UnknownName on an unknown level.
    """
    offsets = alignment.offsets
    tokens = len(offsets) - 1
    value = np.asarray(values, dtype=np.float64)
    if value.shape != (tokens,):
        raise InputError("values", f"expected {tokens} numbers, got shape {value.shape}")
    if part not in ("generated", "prompt", "all"):
        raise InputError("part", "must be 'generated', 'prompt' or 'all'")
    if top < 1:
        raise InputError("top", "must be at least 1")
    if any(not 0 <= q <= 1 for q in quantiles):
        raise InputError("quantiles", "must lie in 0..1")
    index = np.arange(tokens)
    late = index >= n_prompt
    wanted = late if part == "generated" else ~late if part == "prompt" else late | True
    finite = np.isfinite(value)

    g = groups(alignment, by, group)
    token = alignment.token[g.order]
    bytes_ = alignment.weight[g.order]

    def count(which: NDArray[np.bool_]) -> I64:
        _, first, last = _ranges(token, which[token], g)
        return last - first

    entering = wanted & finite
    keep = entering[token]
    seen = np.append(0, np.cumsum(keep))
    low, high = seen[g.low], seen[g.high]
    weight, share = bytes_[keep].astype(np.float64), np.diff(offsets)[token[keep]]
    v = value[token[keep]]
    mass = reduce(np.add, weight, low, high, 0.0)
    middle = float(v.mean()) if len(v) else 0.0  # squares around it lose fewer digits
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = reduce(np.add, weight * v, low, high, 0.0) / mass
        square = reduce(np.add, weight * (v - middle) ** 2, low, high, 0.0) / mass
    total = reduce(np.add, v * (weight / share), low, high, 0.0)
    total[mass == 0] = np.nan
    unique, first, last = _ranges(token, keep, g)
    best, cuts = ordered(value[unique], first, last, top, quantiles)
    return Rollup(
        column, by, part, g, mean, np.sqrt(np.maximum(square - (mean - middle) ** 2, 0.0)),
        reduce(np.minimum, v, low, high, np.nan), reduce(np.maximum, v, low, high, np.nan),
        total, best, last - first, count(late), count(~late), count(wanted & ~finite),
        sums(bytes_, g.low, g.high), tuple(quantiles), cuts,
    )  # fmt: skip


def _ranges(
    token: NDArray[np.int32], keep: NDArray[np.bool_], g: Groups
) -> tuple[NDArray[np.int32], I64, I64]:
    """The distinct tokens among the kept cells, and each group's range over them."""
    seen = np.append(0, np.cumsum(keep))
    return runs(token[keep], seen[g.low], seen[g.high])
