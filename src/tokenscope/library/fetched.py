"""``smollm2`` and ``smollm2:gguf`` as addresses of models that were fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tokenscope.backends.open import OPENERS, Address, Opener, Options, open_backend
from tokenscope.backends.protocol import Backend
from tokenscope.errors import ModelError
from tokenscope.library.gettable import Gettable, gettable, table

GGUF = ":gguf"


def takes(address: str) -> bool:
    """A name of the table, with or without ``:gguf``; a file or folder of that name goes first."""
    return address.removesuffix(GGUF) in table() and not Path(address).exists()


def place(address: str) -> Path:
    """The folder or file that the address means. Raises ModelError when it was not fetched."""
    row: Gettable = gettable(address.removesuffix(GGUF))
    if not address.endswith(GGUF) and (row.safetensors() / "config.json").is_file():
        return row.safetensors()
    if row.gguf().is_file():
        return row.gguf()
    raise ModelError(row.name, f"was not fetched yet; `tokenscope models get {row.name}` does it")


def _open(address: Address, options: Options) -> Backend:
    # in the user's own library, not under the root of a server; it was checked when it came
    return open_backend(place(str(address)), replace(options, root=None))


OPENERS.add("library", Opener(takes, _open))
