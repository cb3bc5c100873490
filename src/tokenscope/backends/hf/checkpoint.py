"""A model folder, checked before anything in it is believed.

safetensors only; headers are read and bounded before a tensor is touched; links are resolved and
must stay inside the allowed root; ``auto_map`` is never followed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenscope.errors import ModelError

MAX_HEADER = 16 << 20
MAX_TENSORS = 100_000
MAX_JSON = 64 << 20
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that passed: its config, its weight files and the number of stored values."""

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    values: int
    nbytes: int
    dtypes: tuple[str, ...]


def inspect(folder: Path, root: Path | None = None) -> Checkpoint:
    """Check a model folder. Raises ModelError that names the file and the cause.

    ``root``: with links resolved, every file must lie inside it (and the folder always may use
    its own real location, as hub caches link files to a store beside the snapshot).
    """
    real = folder.resolve()
    if not real.is_dir():
        raise ModelError(folder, "is no folder" if real.exists() else "does not exist")
    if root is not None:
        _inside(real, root)
    config = read_json(real / "config.json", root)
    if config.get("is_encoder_decoder"):
        raise ModelError(real / "config.json", "an encoder-decoder; only decoders are supported")
    if not config.get("model_type"):
        raise ModelError(real / "config.json", "has no model_type")
    weights = _weight_files(real, root)
    values = nbytes = 0
    dtypes: set[str] = set()
    for file in weights:
        count, size, kinds = check_safetensors(file)
        values += count
        nbytes += size
        dtypes |= kinds
    if not (real / "tokenizer.json").is_file():
        raise ModelError(real / "tokenizer.json", "is missing (a fast tokenizer is needed)")
    return Checkpoint(real, config, weights, values, nbytes, tuple(sorted(dtypes)))


def _inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise ModelError(path.name, "lies outside the allowed model folder")


def read_json(path: Path, root: Path | None = None) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError."""
    if not path.is_file():
        raise ModelError(path, "is missing: this folder holds no model in Hugging Face format")
    if root is not None:
        _inside(path, root)
    if path.stat().st_size > MAX_JSON:
        raise ModelError(path, "is too large")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(path, f"is no JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ModelError(path, "is no JSON object")
    return value


def _weight_files(folder: Path, root: Path | None) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        table = read_json(index, root).get("weight_map")
        if not isinstance(table, dict) or not table:
            raise ModelError(index, "has no weight_map")
        names = sorted({str(n) for n in table.values()})
        for name in names:
            if Path(name).name != name:
                raise ModelError(index, "names a file outside the folder")
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [f for f in files if not f.is_file()]
    if missing:
        raise ModelError(missing[0], "is named in the index but missing")
    if not files:
        if any(any(folder.glob(p)) for p in PICKLES):
            raise ModelError(
                folder, "holds pickled weights only; TokenScope loads safetensors and never pickles"
            )
        raise ModelError(folder, "holds no *.safetensors weights")
    for file in files:
        if root is not None and not _cache_blob(file, folder):
            _inside(file, root)
    return tuple(files)


def _cache_blob(file: Path, folder: Path) -> bool:
    """Whether a link leads to the blob store of the very hub cache that holds the snapshot."""
    real = file.resolve()
    return folder.parent.name == "snapshots" and real.parent == folder.parent.parent / "blobs"


def check_safetensors(path: Path) -> tuple[int, int, set[str]]:
    """(values, bytes, dtypes) of a safetensors file whose header holds. Raises ModelError."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise ModelError(path, "is truncated: no header")
        (length,) = struct.unpack("<Q", head)
        if length > MAX_HEADER:
            raise ModelError(path, f"header of {length} bytes is over the limit of {MAX_HEADER}")
        raw = file.read(length)
    if len(raw) < length:
        raise ModelError(path, "is truncated inside its header")
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise ModelError(path, "has a header that is no JSON") from None
    if not isinstance(header, dict):
        raise ModelError(path, "has a header that is no JSON object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise ModelError(path, f"holds more than {MAX_TENSORS} tensors")
    values = 0
    end = 0
    kinds: set[str] = set()
    for name, entry in header.items():
        try:
            start, stop = (int(n) for n in entry["data_offsets"])
            count = 1
            for n in entry["shape"]:
                count *= int(n)
            kind = str(entry["dtype"])
        except (KeyError, TypeError, ValueError):
            raise ModelError(path, f"has a broken entry for tensor {str(name)[:80]!r}") from None
        if start < 0 or stop < start or count < 0:
            raise ModelError(path, f"has wrong offsets for tensor {str(name)[:80]!r}")
        if kind in SIZES and stop - start != count * SIZES[kind]:
            raise ModelError(path, f"has a wrong size for tensor {str(name)[:80]!r}")
        end = max(end, stop)
        values += count
        kinds.add(kind)
    if 8 + length + end != size:
        cause = "is truncated" if 8 + length + end > size else "has bytes after its last tensor"
        raise ModelError(path, f"{cause}: {size} bytes, expected {8 + length + end}")
    return values, end, kinds


def digest(files: tuple[Path, ...]) -> str:
    """sha256 over the contents of files, in the order given (hex)."""
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
