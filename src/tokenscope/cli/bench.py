"""``tokenscope bench``: how fast this model is here, recorded and bare."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tokenscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    NetworkOption,
    loaded,
)
from tokenscope.cli.output import document, say
from tokenscope.errors import MissingError
from tokenscope.registry import Registry

BENCHES: Registry[str] = Registry("bench")
BENCHES.add("decode", "tokenscope.runs.bench:decode")


def bench(
    what: Annotated[str, typer.Argument(help="decode")] = "decode",
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of the prompt.")] = 256,
    new_tokens: Annotated[int, typer.Option(min=8, help="Tokens decoded per run.")] = 128,
    pairs: Annotated[int, typer.Option(min=1, max=100, help="Interleaved pairs of runs.")] = 5,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    allow_network: NetworkOption = False,
    as_json: JsonOption = False,
) -> int:
    """Compare recorded decoding with transformers' own generate, in interleaved pairs."""
    from importlib import import_module

    module, _, name = BENCHES.get(what).partition(":")
    engine = loaded(model, dtype, device, allow_network)
    say(f"{engine.info.name}: {pairs} pairs of {new_tokens} tokens after {prompt_tokens} ...")
    try:
        measure = getattr(import_module(module), name)
    except ImportError as error:
        raise MissingError(f"this installation has no bench {what}") from error
    figures: dict[str, Any] = measure(
        engine, prompt_tokens=prompt_tokens, new_tokens=new_tokens, pairs=pairs
    )
    if as_json:
        document(figures)
    else:
        for key, value in figures.items():
            print(f"{key:28} {value:.4g}" if isinstance(value, float) else f"{key:28} {value}")
    return 0
