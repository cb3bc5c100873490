"""Traces and sessions as JSON or CSV, to keep or to open elsewhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Literal

import numpy as np

from tokenscope import __version__
from tokenscope.store import NodeRow, SessionRow
from tokenscope.trace import Trace
from tokenscope.trace.display import cell

Format = Literal["json", "csv"]


def session(row: SessionRow, branches: Iterable[tuple[NodeRow, Trace]], form: Format) -> str:
    """A session with all its branches as one document."""
    return _json(row, branches) if form == "json" else _csv(branches)


def _json(row: SessionRow, branches: Iterable[tuple[NodeRow, Trace]]) -> str:
    document = {
        "tokenscope": __version__,
        "session": {
            "id": row.id, "title": row.title, "created": row.created, "updated": row.updated,
        },
        "branches": [
            {
                "id": n.id, "parent": n.parent, "at": n.at, "title": n.title, "status": n.status,
                "created": n.created, "trace": json.loads(trace.to_json()),
            }
            for n, trace in branches
        ],
    }  # fmt: skip
    return json.dumps(document, allow_nan=False)


def _csv(branches: Iterable[tuple[NodeRow, Trace]]) -> str:
    """One row per token of every branch; a column that a branch lacks is empty there."""
    held = list(branches)
    names = list(dict.fromkeys(n for _, trace in held for n in trace.columns))
    out = io.StringIO()
    # every text cell is quoted, so that no line break or comma gets loose
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    fixed = ["branch", "parent", "branch_title", "index", "id", "text", "start", "end",
             "generated", "special"]  # fmt: skip
    writer.writerow([*fixed, *(cell(n) for n in names)])
    for node, trace in held:
        values = [
            trace.columns[n].values if n in trace.columns else np.full(len(trace), np.nan)
            for n in names
        ]
        for t in trace.tokens:
            writer.writerow([
                node.id, node.parent or "", cell(node.title), t.index, t.id, cell(t.text), t.start,
                t.end, int(t.index >= trace.n_prompt), int(t.special),
                *(number(float(v[t.index])) for v in values),
            ])  # fmt: skip
    return out.getvalue()


def trace_bytes(trace: Trace, form: str) -> bytes:
    """One trace as a file for other programs: ``json``, or a row per token as ``csv``, ``parquet``
    or ``arrow`` (the file format of Arrow, which pandas and polars call feather)."""
    if form == "json":
        return trace.to_json().encode()
    if form == "csv":
        frame = trace.to_pandas()
        frame["text"] = frame["text"].map(cell)
        for name in trace.columns:
            frame[name] = frame[name].map(number)
        frame.columns = [cell(str(n)) for n in frame.columns]
        made: str = frame.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        return made.encode()
    out = io.BytesIO()
    if form == "parquet":
        import pyarrow.parquet as parquet

        parquet.write_table(trace.to_arrow(), out)
    else:
        from pyarrow import feather

        feather.write_feather(trace.to_arrow(), out, compression="uncompressed")
    return out.getvalue()


def number(value: float) -> float | str:
    """A float with the digits that float32 has; empty where undefined."""
    return float(f"{value:.9g}") if np.isfinite(value) else ""
