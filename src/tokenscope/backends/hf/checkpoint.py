"""A model folder, checked before anything in it is believed.

safetensors only; headers are read and bounded before a tensor is touched; links are resolved and
must stay inside the folder (or the hub cache it is a snapshot of); ``auto_map`` is never followed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenscope.backends.hf import kinds
from tokenscope.backends.hf.headers import Stored, by_name
from tokenscope.errors import ModelError

MAX_JSON = 64 << 20
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that passed: its config, its weight files and the tensors they declare."""

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    tensors: Mapping[str, Stored]

    @property
    def values(self) -> int:
        """How many numbers are stored."""
        return sum(t.values for t in self.tensors.values())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The stored types, sorted."""
        return tuple(sorted({t.dtype for t in self.tensors.values()}))


def inspect(folder: Path, root: Path | None = None, allow_links: bool = False) -> Checkpoint:
    """Check a model folder. Raises ModelError that names the file, the key and the cause.

    ``root``: the folder, links resolved, must lie inside it, and so must every file. Links that
    leave the folder are refused unless ``allow_links``; those of a hub cache's snapshot into the
    blobs of the same cache are always fine.
    """
    real = _resolved(folder)
    if not real.is_dir():
        raise ModelError(folder, "is no folder" if real.exists() else "does not exist")
    if root is not None:
        _inside(real, root)
    _check_links(real, root, allow_links)
    kinds.check_files(real)
    config = read_json(real / "config.json")
    kinds.check_config(real / "config.json", config)
    weights, index = _weight_files(real)
    tensors = by_name(weights)
    for name, file in index.items():
        if name not in tensors or tensors[name].file.name != file:
            cause = f"says that {file[:80]!r} holds tensor {name[:80]!r}; it does not"
            raise ModelError(real / "model.safetensors.index.json", cause)
    if not tensors:
        raise ModelError(weights[0], "holds no tensors")
    return Checkpoint(real, config, weights, tensors)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the latter: links that lead round in a circle
        raise ModelError(path, "is a link that leads nowhere") from None


def _inside(path: Path, root: Path) -> None:
    if not _resolved(path).is_relative_to(root.resolve()):
        raise ModelError(path.name, "lies outside the allowed model folder")


def _check_links(folder: Path, root: Path | None, allow_links: bool) -> None:
    """Every entry of the folder leads to a place inside it, or where it is allowed to lead."""
    for n, path in enumerate(sorted(folder.iterdir())):
        if n == MAX_ENTRIES:
            raise ModelError(folder, f"holds more than {MAX_ENTRIES} files")
        if not path.is_symlink() or _cache_blob(path, folder):
            continue
        if root is not None:
            _inside(path, root)
        if not allow_links and not _resolved(path).is_relative_to(folder):
            raise ModelError(
                path, "is a link that leaves the model folder; copy the file, or allow it with "
                "--allow-links (in Python: allow_links=True)",
            )  # fmt: skip


def _cache_blob(file: Path, folder: Path) -> bool:
    """Whether a link leads to the blob store of the very hub cache that holds the snapshot."""
    real = _resolved(file)
    return folder.parent.name == "snapshots" and real.parent == folder.parent.parent / "blobs"


def read_text(path: Path, most: int = MAX_JSON) -> str:
    """A UTF-8 file of at most ``most`` bytes. Raises ModelError."""
    try:
        if path.stat().st_size > most:
            raise ModelError(path, f"is too large: over {most} bytes")
        return path.read_bytes().decode()
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ModelError(path, f"is not UTF-8 (byte {error.start})") from None


def read_json(path: Path, most: int = MAX_JSON) -> dict[str, Any]:
    """A JSON object from a file of at most ``most`` bytes. Raises ModelError."""
    if not path.is_file():
        raise ModelError(path, "is missing: this folder holds no model in Hugging Face format")
    try:
        value = json.loads(read_text(path, most))
    except (ValueError, RecursionError) as error:
        raise ModelError(path, f"is no JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ModelError(path, "is no JSON object")
    return value


def _weight_files(folder: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    """The files that transformers would read, in its order of preference, and what an index says.

    That order: ``model.safetensors``, else the shards of ``model.safetensors.index.json``.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,), {}
    if not index.is_file():
        raise ModelError(folder, kinds.without_weights(folder))
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ModelError(index, "has no weight_map")
    if not all(isinstance(n, str) and Path(n).name == n for n in table.values()):
        raise ModelError(index, "weight_map names a file outside the folder")
    files = tuple(folder / name for name in sorted(set(table.values())))
    missing = [f for f in files if not f.is_file()]
    if missing:
        raise ModelError(missing[0], "is named in the index but missing")
    return files, table


def digest(files: tuple[Path, ...]) -> str:
    """sha256 over the contents of files, in the order given (hex)."""
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
