"""An address to a backend: who can open it is decided by what the address looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenscope.backends.protocol import Backend
from tokenscope.errors import CapacityError, InputError, ModelError
from tokenscope.registry import Registry

Address = str | Path | None
StartToken = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to open: ``dtype`` and ``device`` are chosen sensibly when None.

    ``allow_network``: files may be fetched. ``root``: folders must lie inside it.
    ``start_token``: whether plain prompts begin with one (``auto``: as the model's own tokenizer
    does). ``allow_links``: files of a folder may be links to places outside it. ``allow_servers``:
    addresses of model servers on other machines that prompts may be sent to. ``max_memory``: bytes
    that the process may take; what does not fit stays on the disk.
    """

    dtype: str | None = None
    device: str | None = None
    allow_network: bool = False
    root: Path | None = None
    start_token: StartToken = "auto"
    allow_links: bool = False
    allow_servers: tuple[str, ...] = ()
    max_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Opener:
    """``takes`` says whether an address is of this kind; ``open`` makes the backend."""

    takes: Callable[[str], bool]
    open: Callable[[Address, Options], Backend]


OPENERS: Registry[Opener] = Registry("kind of model address")


def open_backend(address: Address = None, options: Options = Options()) -> Backend:
    """Open what the first opener that takes ``address`` makes of it.

    ``None`` or ``bundled``, a folder and a hub id are models in Hugging Face format; ``http://``
    and ``https://`` addresses are servers. Raises ModelError, InputError, CapacityError,
    RemoteError, AbilityError.
    """
    text = "" if address is None else str(address)
    opener = next(o for _, o in OPENERS if o.takes(text))
    return opener.open(address, options)


def _gguf(address: Address, options: Options) -> Backend:
    from tokenscope.backends.gguf.load import load

    path = Path(str(address)).expanduser()
    if options.root is not None and not path.resolve().is_relative_to(options.root.resolve()):
        raise ModelError(path.name, "lies outside the model root of this server")
    if options.dtype not in (None, "auto") or options.device not in (None, "auto", "cpu"):
        raise InputError("dtype", "a GGUF file runs as it is, on the CPU")
    if options.max_memory is not None:
        from tokenscope.backends.gguf.header import read_header
        from tokenscope.backends.gguf.memory import need

        size = need(read_header(path), 0).total
        if size > options.max_memory:
            raise CapacityError(
                f"{path.name}: takes about {size / 1e9:.2f} GB of the "
                f"{options.max_memory / 1e9:.2f} GB allowed; a GGUF file is not read piece by piece"
            )
    return load(path)


def _server(address: Address, options: Options) -> Backend:
    from tokenscope.backends.remote.load import load

    if options.dtype not in (None, "auto") or options.device not in (None, "auto"):
        raise InputError("dtype", "a server runs its model as it pleases")
    return load(str(address), options.allow_servers)


def _folder(address: Address, options: Options) -> Backend:
    from tokenscope.backends.hf.load import load

    return load(
        address, dtype=options.dtype, device=options.device,
        allow_network=options.allow_network, root=options.root,
        start_token=options.start_token, allow_links=options.allow_links,
        max_memory=options.max_memory,
    )  # fmt: skip


OPENERS.add("server", Opener(lambda s: s.lower().startswith(("http://", "https://")), _server))
OPENERS.add("gguf", Opener(lambda s: s.lower().endswith(".gguf"), _gguf))
OPENERS.promise("library", "tokenscope.library.fetched")  # names of fetched models
OPENERS.add("folder or hub id", Opener(lambda _: True, _folder))
