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
from tokenscope.errors import InputError
from tokenscope.registry import Registry

BENCHES: Registry[tuple[str, ...]] = Registry("bench")
"""Name of a function in ``runs.bench`` -> the options that it takes."""
BENCHES.add("decode", ("prompt_tokens", "new_tokens", "pairs", "attention", "progress"))
BENCHES.add("prefill", ("prompt_tokens", "pairs"))


def bench(
    what: Annotated[str, typer.Argument(help="decode or prefill.")] = "decode",
    prompt_tokens: Annotated[
        int | None, typer.Option(min=2, help="Length of the prompt. decode: 256, prefill: 2000.")
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens decoded per run.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, max=100, help="Interleaved pairs of runs.")] = 5,
    attention: Annotated[str, typer.Option(help="What to record: none, top or full.")] = "top",
    model: ModelOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    allow_network: NetworkOption = False,
    as_json: JsonOption = False,
) -> int:
    """Compare recording with the bare model: same model, same threads, interleaved runs."""
    takes = BENCHES.get(what)
    given: dict[str, Any] = {
        "prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "pairs": pairs,
        "attention": attention, "progress": say,
    }  # fmt: skip
    if attention not in ("none", "top", "full"):
        raise InputError("--attention", "must be none, top or full")
    engine = loaded(model, dtype, device, allow_network)

    from tokenscope.runs import bench as benches

    options = {k: v for k, v in given.items() if k in takes and v is not None}
    figures: dict[str, Any] = getattr(benches, what)(engine, **options)
    if as_json:
        document(figures)
        return 0
    for key, value in figures.items():
        if isinstance(value, float):
            print(f"{key:28} {value:.4g}")
        elif not isinstance(value, list):
            print(f"{key:28} {value}")
    return 0
