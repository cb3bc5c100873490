"""A ``.gguf`` file to a loaded backend."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import psutil

from tokenscope.backends import loading
from tokenscope.backends.gguf.backend import BATCH, SEQUENCES, GgufBackend, is_gguf, threads
from tokenscope.backends.gguf.client import Worker
from tokenscope.backends.gguf.header import FILE_TYPES
from tokenscope.backends.protocol import Abilities, ModelInfo
from tokenscope.errors import CapacityError, ModelError

CELLS = 16_384  # of the memory that all sequences share, unless a context needs more


def load(path: Path, *, attention: bool = True, cells: int = CELLS) -> GgufBackend:
    """Load a GGUF file in a worker process of its own.

    ``attention``: record rows (flash attention is then off). ``cells``: tokens that all states
    together may hold. Raises ModelError, CapacityError, MissingError (the extra is not installed).
    """
    if not path.is_file():
        raise ModelError(path, "does not exist")
    if not is_gguf(path):
        raise ModelError(path, "is no GGUF file")
    size, free = path.stat().st_size, psutil.virtual_memory().available
    if size > free * 0.95:
        raise CapacityError(f"{path.name}: needs {size / 1e9:.1f} GB, {free / 1e9:.1f} are free")
    loading.stage("reading the weights")
    worker = Worker(path)
    try:
        facts, _, data = worker.ask(
            "load", path=str(path.resolve()), gpu_layers=0, attention=attention, batch=BATCH,
            cells=cells, sequences=SEQUENCES, threads=threads(),
        )  # fmt: skip
        return _backend(worker, path, facts, data, cells)
    except BaseException:
        worker.close()
        raise


def _backend(
    worker: Worker, path: Path, facts: dict[str, Any], data: bytes, cells: int
) -> GgufBackend:
    pieces, at = [], 0
    for size in facts["sizes"]:
        pieces.append(data[at : at + size])
        at += size
    kind = FILE_TYPES.get(facts["file_type"], f"GGUF type {facts['file_type']}")
    rows = facts["attention"]
    width = facts["hidden"] // max(facts["heads"], 1)
    notes = [
        f"{facts['description']} through llama.cpp; the numbers are those of its own arithmetic"
        + ("" if kind == "float32" else f" on {kind} weights")
    ]
    if rows:
        notes.append("flash attention is off, so that attention can be recorded")
    elif facts["window"] or facts["recurrent"]:
        notes.append("attention is not recorded: this model's memory has cells of several kinds")
    info = ModelInfo(
        name=facts["name"] or path.stem, path=str(path), architecture=facts["architecture"],
        backend="llama.cpp", parameters=facts["parameters"], layers=facts["layers"],
        heads=facts["heads"], kv_heads=facts["kv_heads"], hidden=facts["hidden"],
        vocab=facts["vocab"], context=min(facts["context"], cells), dtype=kind, device="cpu",
        kernel="ggml", model_digest=_digest(path), tokenizer_digest=_vocabulary(facts, data),
        attention_layers=tuple(range(facts["layers"])) if rows else (),
        state_bytes_per_token=2 * facts["layers"] * facts["kv_heads"] * width
        * (4 if kind == "float32" else 2),
        notes=tuple(notes), versions=_versions(),
        start_token=facts["specials"].get(str(facts["bos"]), "") if facts["adds_bos"] else "",
    )  # fmt: skip
    abilities = Abilities(
        attention=rows, fork="copy" if facts["recurrent"] else "crop",
        infill=min(facts["infill"]) >= 0,
    )  # fmt: skip
    return GgufBackend(worker, info, abilities, facts, pieces)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _vocabulary(facts: dict[str, Any], data: bytes) -> str:
    """SHA-256 over all tokens' bytes and lengths: what the ids mean."""
    total = hashlib.sha256(repr((facts["sizes"], sorted(facts["specials"].items()))).encode())
    total.update(data)
    return total.hexdigest()


def _versions() -> dict[str, str]:
    import platform
    from importlib import metadata

    return {
        "python": platform.python_version(), "xllamacpp": metadata.version("xllamacpp"),
        "tokenscope": metadata.version("tokenscope"),
    }  # fmt: skip
