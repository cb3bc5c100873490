"""``tokenscope bench``: how fast this model is here, recorded and bare."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say
from tokenscope.errors import InputError
from tokenscope.registry import Registry

BENCHES: Registry[tuple[str, tuple[str, ...]]] = Registry("bench")
"""Name -> module of ``runs`` whose function of that name is called, and the options it takes."""
_DECODE = ("prompt_tokens", "new_tokens", "pairs", "attention", "speculate", "progress")
BENCHES.add("decode", ("bench", _DECODE))
BENCHES.add("prefill", ("bench", ("prompt_tokens", "pairs")))
BENCHES.add("concurrent", ("bench_many", ("runs", "prompt_tokens", "new_tokens", "attention")))
BENCHES.add("branches", ("bench_many", ("runs", "prompt_tokens", "new_tokens", "attention")))
BENCHES.add("fork", ("bench_many", ("forks", "prompt_tokens", "tail_tokens")))


@opens_a_model
def bench(
    what: Annotated[str, typer.Argument(
        help="decode, prefill, concurrent, branches or fork.")] = "decode",
    prompt_tokens: Annotated[int | None, typer.Option(
        min=2, help="Length of the prompt. decode 256, prefill 2000, concurrent 128, fork 1000.",
    )] = None,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens decoded per run.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, max=100, help="Interleaved pairs of runs.")] = 5,
    attention: Annotated[str, typer.Option(help="What to record: none, top or full.")] = "top",
    speculate: Annotated[str, typer.Option(
        help="decode: auto lets earlier text propose what follows; none does not.")] = "auto",
    runs: Annotated[int | None, typer.Option(
        min=2, max=256, help="At once: concurrent 16, branches 32.")] = None,
    forks: Annotated[int, typer.Option(min=1, help="fork: branches of one prefix.")] = 500,
    tail_tokens: Annotated[int, typer.Option(min=1, help="fork: tokens of each branch.")] = 16,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Compare recording with the bare model: same model, same threads, interleaved runs."""
    home, takes = BENCHES.get(what)
    given: dict[str, Any] = {
        "prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "pairs": pairs,
        "attention": attention, "speculate": speculate, "runs": runs, "forks": forks,
        "tail_tokens": tail_tokens, "progress": say,
    }  # fmt: skip
    if speculate not in ("auto", "none"):
        raise InputError("--speculate", "must be auto or none")
    if attention not in ("none", "top", "full"):
        raise InputError("--attention", "must be none, top or full")
    engine = wanted.load()

    options = {k: v for k, v in given.items() if k in takes and v is not None}
    figures: dict[str, Any] = getattr(import_module(f"tokenscope.runs.{home}"), what)(
        engine, **options
    )
    if as_json:
        document(figures)
        return 0
    for key, value in figures.items():
        if isinstance(value, float):
            print(f"{key:28} {value:.4g}")
        elif not isinstance(value, list):
            print(f"{key:28} {value}")
    return 0
