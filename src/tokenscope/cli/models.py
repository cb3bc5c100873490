"""``tokenscope models``: what can be loaded here without the network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption
from tokenscope.cli.output import document, visible


@dataclass(frozen=True)
class Found:
    """A model on this machine. ``address``: what ``--model`` takes."""

    address: str
    kind: str
    architecture: str
    size_mb: float
    path: str


def models(
    model_root: Annotated[
        Path | None, typer.Option(help="A folder whose subfolders hold models.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """List the bundled model, those under --model-root, and those in the hub's local cache."""
    found = list(all_models(model_root))
    if as_json:
        document([asdict(f) for f in found])
        return 0
    for f in found:
        line = f"{f.address:40} {f.kind:8} {f.size_mb:9.1f} MB  {f.architecture}"
        print(visible(line))
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
    """The model in a folder, if one is there: a config, and weights in safetensors."""
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        return
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        names = config.get("architectures") or [config.get("model_type", "")]
        size = sum(w.stat().st_size for w in weights) / 1e6
    except (OSError, ValueError, AttributeError):
        return
    yield Found(address, kind, str(names[0]), round(size, 1), str(folder))


def hub_cache() -> Path:
    """Where the hub's client keeps what it fetched (its own variables, its own default)."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    return Path(home) / "hub"
