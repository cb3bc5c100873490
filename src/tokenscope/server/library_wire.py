"""The wire of the library; rules as in ``wire``."""

from __future__ import annotations

from typing import Literal

from tokenscope.server.wire import Response


class AbleInfo(Response):
    """What a model would be able to do. ``forks``: anywhere, or only where a state was kept."""

    columns: bool
    attention: bool
    forks: Literal["anywhere", "kept"]
    internals: bool
    chat: bool


class LibraryEntry(Response):
    """A model at hand. ``offer``: its id among the models of this server, None for one that is not
    offered (it is to be fetched, cannot be loaded, or lies outside the model root); ``get``: the
    name by which it can be fetched. ``need``: bytes that it would take here as ``way``; ``fits``:
    whether they are free; ``why`` says it in a sentence. ``reason``: why it cannot be loaded."""

    address: str
    name: str
    kind: Literal["bundled", "fetched", "folder", "cache", "to fetch"]
    form: Literal["safetensors", "gguf"]
    offer: str | None
    get: str | None
    architecture: str
    parameters: int | None
    bytes: int
    context: int | None
    number: str
    licence: str
    digest: str | None
    able: AbleInfo | None
    way: str
    need: int | None
    fits: bool | None
    why: str
    reason: str | None


class LibraryResponse(Response):
    """``free``: bytes of memory that are free now."""

    free: int
    models: list[LibraryEntry]
