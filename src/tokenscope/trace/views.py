"""A trace for other programs: a frame of pandas, polars or Arrow, a JSON document."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from tokenscope.errors import MissingError
from tokenscope.trace.record import VIEWS, Trace

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

FORMAT = 1


@VIEWS.register("pandas")
def to_pandas(trace: Trace) -> pd.DataFrame:
    """One row per token: ``index, id, text, start, end, generated, special`` and all columns.

    ``text`` is the token's own bytes, for reading; pieces of a split character show as U+FFFD.
    """
    import pandas as pd

    return pd.DataFrame(_series(trace))


def _series(trace: Trace) -> dict[str, object]:
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
    return data


@VIEWS.register("arrow")
def to_arrow(trace: Trace) -> pa.Table:
    """The columns of :func:`to_pandas`, NaN as null, and with recorded alternatives a column of
    them: a list of ``{id, text, logprob}``, the likeliest first. The table's metadata hold the
    trace's origin under ``tokenscope.origin``, so that a Parquet file tells where it is from.
    """
    import pyarrow as pa

    data = {name: pa.array(values, from_pandas=True) for name, values in _series(trace).items()}
    if trace.alternatives is not None:
        rows = [
            [
                {"id": a.id, "text": a.label or a.bytes.decode("utf-8", "replace"),
                 "logprob": a.logprob}
                for a in trace.alternatives.row(t)
            ]
            for t in range(len(trace))
        ]  # fmt: skip
        fields = [("id", pa.int32()), ("text", pa.string()), ("logprob", pa.float32())]
        data["alternatives"] = pa.array(rows, pa.list_(pa.struct(fields)))
    return pa.table(data, metadata={"tokenscope.origin": json.dumps(trace.origin.to_json())})


@VIEWS.register("polars")
def to_polars(trace: Trace) -> pl.DataFrame:
    """:func:`to_arrow` as a polars frame. Raises MissingError where polars is not installed."""
    try:
        import polars as pl
    except ImportError:
        raise MissingError("polars is not installed: pip install polars") from None
    frame = pl.from_arrow(to_arrow(trace))
    assert isinstance(frame, pl.DataFrame)
    return frame


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
