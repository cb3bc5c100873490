"""Findings for other programs: JSON lines, Parquet, CSV.

Columns of a row of findings (Parquet and CSV):

    case, sample, path, form, language   where: the id of the case, the number of its sample
    rule, cwe, severity, confidence, source, message
    start, end                           bytes of the text
    line, column                         of the start, from 1; column in characters
    first_token, last_token              half-open range; -1 where there are no tokens
    surprisal_max                        nats, over these tokens; null where undefined
    seed, model_digest

Parquet is partitioned by language: ``report.parquet/language=python/part-0.parquet``.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as dataset

from tokenscope import disk
from tokenscope.evidence.report import WRITERS, Report, data_of, place
from tokenscope.trace.display import cell

SCHEMA = pa.schema(
    [("case", pa.string()), ("sample", pa.int32()), ("path", pa.string()), ("form", pa.string()),
     ("language", pa.string()), ("rule", pa.string()), ("cwe", pa.int32()),
     ("severity", pa.string()), ("confidence", pa.string()), ("source", pa.string()),
     ("message", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("line", pa.int32()),
     ("column", pa.int32()), ("first_token", pa.int32()), ("last_token", pa.int32()),
     ("surprisal_max", pa.float32()), ("seed", pa.int64()), ("model_digest", pa.string())]
)  # fmt: skip
_BATCH = 2000


def rows(report: Report) -> Iterator[dict[str, Any]]:
    """One row per finding of every sample of every case."""
    for record in report.cases():
        for sample in record["samples"]:
            data = data_of(sample) if sample["findings"] else b""
            for finding in sample["findings"]:
                yield row(record, sample, finding, data)


def row(
    record: Mapping[str, Any], sample: Mapping[str, Any], finding: Mapping[str, Any], data: bytes
) -> dict[str, Any]:
    """A finding as plain values, see SCHEMA."""
    line, column = place(data, finding["start"])
    first, last = finding["tokens"] or (-1, -1)
    known = [
        v for v in sample["tokens"]["surprisal"][max(first, 0) : max(last, 0)] if v is not None
    ]
    return {
        "case": record["case"], "sample": sample["sample"], "path": record["path"],
        "form": record["form"], "language": sample["language"], "rule": finding["rule"],
        "cwe": finding["cwe"], "severity": finding["severity"],
        "confidence": finding["confidence"], "source": finding["source"],
        "message": finding["message"], "start": finding["start"], "end": finding["end"],
        "line": line, "column": column, "first_token": first, "last_token": last,
        "surprisal_max": max(known) if known else None, "seed": sample["seed"],
        "model_digest": sample["model"]["digest"],
    }  # fmt: skip


@WRITERS.register("jsonl")
def write_jsonl(report: Report, folder: Path) -> Path:
    """``report.jsonl``: the summary, then a line per gate, finding and error."""

    def lines() -> Iterator[bytes]:
        yield _line(report.summary())
        for verdict in report.verdicts:
            yield _line({"kind": "gate", **verdict.to_json()})
        for found in rows(report):
            yield _line({"kind": "finding", **found})
        for error in report.errors:
            yield _line({"kind": "error", **error})

    path = folder / "report.jsonl"
    disk.write_whole(path, lines())
    return path


def _line(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=True).encode() + b"\n"


@WRITERS.register("parquet")
def write_parquet(report: Report, folder: Path) -> Path:
    """``report.parquet/language=.../part-0.parquet``; at least one file, so that it can be read."""
    path = folder / "report.parquet"
    if path.is_dir():
        shutil.rmtree(path)
    dataset.write_dataset(
        _batches(report), path, schema=SCHEMA, format="parquet",
        partitioning=dataset.partitioning(pa.schema([SCHEMA.field("language")]), flavor="hive"),
        basename_template="part-{i}.parquet", existing_data_behavior="overwrite_or_ignore",
    )  # fmt: skip
    if not any(path.rglob("*.parquet")):
        import pyarrow.parquet as parquet

        disk.make_folder(path / "language=none")
        empty = SCHEMA.remove(SCHEMA.get_field_index("language")).empty_table()
        parquet.write_table(empty, path / "language=none" / "part-0.parquet")
    return path


def _batches(report: Report) -> Iterator[pa.RecordBatch]:
    held: list[dict[str, Any]] = []
    for found in rows(report):
        held.append({k: _storable(v) for k, v in found.items()})
        if len(held) == _BATCH:
            yield pa.RecordBatch.from_pylist(held, schema=SCHEMA)
            held = []
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=SCHEMA)


def _storable(value: Any) -> Any:
    """Arrow takes no lone surrogate."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


@WRITERS.register("csv")
def write_csv(report: Report, folder: Path) -> Path:
    """``report.csv``: what looks like a formula of a spreadsheet gets a quote in front."""

    def pieces() -> Iterator[bytes]:
        out = io.StringIO()
        writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        writer.writerow(SCHEMA.names)
        for found in rows(report):
            writer.writerow([cell(v) if isinstance(v, str) else "" if v is None else v
                             for v in found.values()])  # fmt: skip
            yield out.getvalue().encode("utf-8", "replace")
            out.seek(0)
            out.truncate()
        yield out.getvalue().encode("utf-8", "replace")

    path = folder / "report.csv"
    disk.write_whole(path, pieces())
    return path
