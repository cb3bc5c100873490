"""``tokenscope models``: what can be loaded here without the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption
from tokenscope.cli.output import document, visible
from tokenscope.errors import InputError, ModelError

MARKS = (".json", ".safetensors", ".bin", ".gguf", ".pt", ".pth")  # a folder with none is no model


@dataclass(frozen=True)
class Found:
    """A model on this machine. ``address``: what ``--model`` takes. ``reason``: why it cannot be
    loaded; None where nothing speaks against it."""

    address: str
    kind: str
    architecture: str
    size_mb: float
    path: str
    reason: str | None = None


def models(
    model_root: Annotated[
        Path | None, typer.Option(help="A folder whose subfolders hold models.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """List the bundled model, those under --model-root, and those in the hub's local cache."""
    if model_root is not None and not model_root.is_dir():
        raise InputError("--model-root", "is no folder")
    found = sorted(all_models(model_root), key=lambda f: f.reason is not None)
    if as_json:
        document([asdict(f) for f in found])
        return 0
    for f in found:
        if f.reason is None:
            print(visible(f"{f.address:40} {f.kind:8} {f.size_mb:9.1f} MB  {f.architecture}"))
        else:
            print(visible(f"{f.address:40} {f.kind:8} cannot be loaded: {f.reason}"))
    return 0


def all_models(root: Path | None) -> Iterator[Found]:
    """Bundled first."""
    import tokenscope

    yield from described("bundled", "bundled", Path(tokenscope.__file__).parent / "models/bundled")
    if root is not None and root.is_dir():
        for folder in sorted(p for p in root.iterdir() if p.is_dir()):
            yield from described(str(folder), "folder", folder)
    for folder in sorted(hub_cache().glob("models--*/snapshots/*")):
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        yield from described(name, "cache", folder)


def described(address: str, kind: str, folder: Path) -> Iterator[Found]:
    """The model in a folder, if it holds anything of one; with the reason why it cannot be loaded,
    as far as its files tell before they are read."""
    from tokenscope.backends.hf.checkpoint import inspect

    if not any(p.suffix in MARKS for p in folder.iterdir()):
        return
    try:
        checkpoint = inspect(folder)
    except ModelError as error:
        yield Found(address, kind, "", 0.0, str(folder), str(error))
        return
    names = checkpoint.config.get("architectures") or [checkpoint.config.get("model_type", "")]
    size = round(sum(w.stat().st_size for w in checkpoint.weights) / 1e6, 1)
    yield Found(address, kind, str(names[0]), size, str(folder))


def hub_cache() -> Path:
    """Where the hub's client keeps what it fetched (its own variables, its own default)."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    return Path(home) / "hub"
