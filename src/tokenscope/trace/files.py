"""Traces on disk and on the wire: arrays and JSON, never pickles.

A saved trace is a zip of ``trace.json`` (the header) and little-endian ``.npy`` arrays.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import Column
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace
from tokenscope.trace.tokens import Tokens

FORMAT = 1
MAX_HEADER = 256 << 20


def arrays(trace: Trace) -> dict[str, NDArray[Any]]:
    """Every array of the trace by name (what ``save`` and the store write)."""
    out: dict[str, NDArray[Any]] = {
        "ids": trace.tokens.ids,
        "offsets": trace.tokens.offsets,
        "data": np.frombuffer(trace.tokens.data, dtype=np.uint8),
    }
    out |= {f"column.{n}": c.values for n, c in trace.columns.items()}
    if trace.alternatives is not None:
        out["alternatives.ids"] = trace.alternatives.ids
        out["alternatives.logprobs"] = trace.alternatives.logprobs
    if trace.attention is not None:
        for name in ("weights", "keys", "sink", "rest"):
            value = getattr(trace.attention, name)
            if value is not None:
                out[f"attention.{name}"] = value
    return out


def header(trace: Trace) -> dict[str, Any]:
    """Everything of the trace that is no array, as plain JSON values."""
    head: dict[str, Any] = {
        "format": FORMAT,
        "n_prompt": trace.n_prompt,
        "finish": trace.finish,
        "language": trace.language,
        "labels": {str(k): v for k, v in trace.tokens.labels.items()},
        "columns": {n: c.quality for n, c in trace.columns.items()},
        "origin": trace.origin.to_json(),
    }
    if trace.alternatives is not None:
        alt = trace.alternatives
        head["pieces"] = {str(k): base64.b64encode(v).decode() for k, v in alt.pieces.items()}
        head["piece_labels"] = {str(k): v for k, v in alt.labels.items()}
    if trace.attention is not None:
        a = trace.attention
        head["attention"] = {
            "form": a.form, "layers": list(a.layers), "heads": a.heads, "first": a.first,
        }  # fmt: skip
    return head


def build(head: dict[str, Any], data: dict[str, NDArray[Any]]) -> Trace:
    """The inverse of :func:`header` and :func:`arrays`. Raises InputError on a wrong format."""
    if head.get("format") != FORMAT:
        raise InputError("format", f"{head.get('format')!r} is not readable here (want {FORMAT})")
    try:
        tokens = Tokens(
            data["ids"],
            data["data"].astype(np.uint8).tobytes(),
            data["offsets"],
            {int(k): str(v) for k, v in head["labels"].items()},
        )
        columns = {
            n: Column(n, data[f"column.{n}"], quality) for n, quality in head["columns"].items()
        }
        alternatives = None
        if "alternatives.ids" in data:
            alternatives = Alternatives(
                data["alternatives.ids"],
                data["alternatives.logprobs"],
                {int(k): base64.b64decode(v) for k, v in head.get("pieces", {}).items()},
                {int(k): str(v) for k, v in head.get("piece_labels", {}).items()},
            )
        attention = None
        if "attention" in head:
            a = head["attention"]
            attention = Attention(
                a["form"], tuple(a["layers"]), a["heads"], a["first"], data["attention.weights"],
                data.get("attention.keys"), data.get("attention.sink"),
                data.get("attention.rest"),
            )  # fmt: skip
        return Trace(
            tokens, int(head["n_prompt"]), columns, alternatives, attention,
            Origin.from_json(head["origin"]), head["finish"], head.get("language", ""),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("trace", f"incomplete file: {error!r}") from error


def save(trace: Trace, path: str | Path) -> Path:
    """Write to a temporary name beside ``path``, fsync, rename. Returns the path."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    with open(temporary, "wb") as raw:
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("trace.json", json.dumps(header(trace), allow_nan=False))
            for name, array in arrays(trace).items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(f"{name}.npy", buffer.getvalue())
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(temporary, target)
    return target


def read(path: str | Path) -> Trace:
    """Read what ``save`` wrote. Raises InputError that names the file and the cause."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("trace.json").file_size > MAX_HEADER:
                raise InputError(str(path), "its header is too large")
            head = json.loads(archive.read("trace.json"))
            data: dict[str, NDArray[Any]] = {}
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as member:
                        data[name[:-4]] = np.lib.format.read_array(member, allow_pickle=False)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(str(path), f"is no saved trace ({type(error).__name__})") from error
    return build(head, data)


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
