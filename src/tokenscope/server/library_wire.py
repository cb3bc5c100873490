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
    """A model at hand. ``offer``: the first of its ids among the models of this server (one that is
    loaded, if any is), None for one that is not offered (it is to be fetched, cannot be loaded, or
    lies outside the model root); ``get``: the name by which it can be fetched. ``need``: bytes
    that it would take here as ``way``; ``fits``: whether they are free; ``why`` says it in a
    sentence. ``reason``: why it cannot be loaded."""

    address: str
    name: str
    kind: Literal["bundled", "fetched", "folder", "cache", "to fetch", "server"]
    form: Literal["safetensors", "gguf", "server"]
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


class ChoiceInfo(Response):
    """One way of loading: bytes at the peak of the process, by parts (``base``: the process without
    a model; ``packed``: a second copy that makes steps faster; ``cache``: keys and values;
    ``work``: the largest pass). ``dtype``, ``max_memory``: what to ask for to get it; neither for
    a file that is taken as it is."""

    way: str
    base: int
    weights: int
    packed: int
    cache: int
    work: int
    total: int
    fits: bool
    why: str
    dtype: Literal["float32", "bfloat16", "int8"] | None
    max_memory: int | None


class PlanResponse(Response):
    """What a model would take here for ``context`` tokens. ``chosen``: the way that is taken, None
    when nothing fits, and why; ``seconds``: what a token takes at least with the layers on the
    disk, measured on these files now."""

    name: str
    context: int
    free: int
    ceiling: int | None
    choices: list[ChoiceInfo]
    chosen: str | None
    why: str
    seconds: float | None
