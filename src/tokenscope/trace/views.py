"""A trace for other programs: a pandas frame, a JSON document."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from tokenscope.trace.record import VIEWS, Trace

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


@VIEWS.register("pandas")
def to_pandas(trace: Trace) -> pd.DataFrame:
    """One row per token: ``index, id, text, start, end, generated, special`` and all columns.

    ``text`` is the token's own bytes, for reading; pieces of a split character show as U+FFFD.
    """
    import pandas as pd

    n = len(trace)
    data: dict[str, object] = {
        "index": np.arange(n),
        "id": trace.ids,
        "text": [t.text for t in trace.tokens],
        "start": trace.tokens.offsets[:-1],
        "end": trace.tokens.offsets[1:],
        "generated": np.arange(n) >= trace.n_prompt,
        "special": trace.tokens.special,
    }
    for name, column in trace.columns.items():
        data[name] = column.values
    return pd.DataFrame(data)


@VIEWS.register("json")
def to_json(trace: Trace) -> str:
    """One JSON document for people and programs; NaN is null; attention is left out."""
    tokens = [
        {
            "index": t.index, "id": t.id, "text": t.text,
            "bytes": base64.b64encode(t.bytes).decode(), "special": t.special,
            "alternatives": [
                {
                    "id": a.id, "text": a.label or a.bytes.decode("utf-8", "replace"),
                    "logprob": plain(a.logprob), "rank": a.rank, "chosen": a.chosen,
                }
                for a in (trace.alternatives.row(t.index, t.id) if trace.alternatives else [])
            ],
        }
        for t in trace.tokens
    ]  # fmt: skip
    document = {
        "format": FORMAT,
        "text": trace.text,
        "n_prompt": trace.n_prompt,
        "finish": trace.finish,
        "summary": {k: plain(v) for k, v in trace.summary().items()},
        "origin": trace.origin.to_json(),
        "columns": {
            n: {"unit": c.spec.unit, "quality": c.quality,
                "values": [plain(v) for v in c.values.tolist()]}
            for n, c in trace.columns.items()
        },
        "tokens": tokens,
    }  # fmt: skip
    return json.dumps(document, allow_nan=False, ensure_ascii=True)


def plain(value: float) -> float | None:
    """A finite float, or None: JSON has no NaN."""
    return value if math.isfinite(value) else None
