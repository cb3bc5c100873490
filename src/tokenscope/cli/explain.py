"""``tokenscope explain``: why this token rather than that one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    NetworkOption,
    loaded,
)
from tokenscope.cli.output import document, say, visible
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.explain.explanation import Explanation


def explain(
    path: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace kept with --save.")],
    at: Annotated[int, typer.Option("--at", help="Index of the token to explain.")],
    contrast: Annotated[
        str | None, typer.Option("--contrast", help="Rather than this token (text or #id).")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="occlusion, input_x_gradient, integrated_gradients, "
            "attention_knockout or attention_mean.",
        ),
    ] = "occlusion",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", help="A table more (repeat): regions, lens, components, ablation, edges, "
            "faithfulness.",
        ),
    ] = None,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    allow_network: NetworkOption = False,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Say why the model chose a token, and show what backs it."""
    from tokenscope.runs.explain import Control
    from tokenscope.runs.explain import explain as start
    from tokenscope.trace import read

    if not path.is_file():
        raise InputError("TRACE", "is no file")
    trace = read(path)
    engine = loaded(model, dtype, device, allow_network)
    made = start(
        engine, trace, at, contrast=_token(contrast), method=method, also=tuple(also or ()),
        control=Control(_progress),
    )  # fmt: skip
    if as_json:
        document(made.to_json())
    else:
        show(made)
    return 0 if made.converged else 1


def show(made: Explanation) -> None:
    """The sentence, the heaviest tokens, the tables; everything as plain text."""
    print(visible(made.sentence))
    print(visible(made.beside))
    if made.note:
        print(visible(made.note))
    frame = made.to_pandas()
    top = frame.reindex(frame["value"].abs().sort_values(ascending=False).index).head(12)
    print(f"\n{made.method} of {made.target.kind} = {made.value:.4f} nats")
    print(visible(top.to_string(index=False)))
    for name, table in made.tables.items():
        print(f"\n{name}: {visible(table.note)}")
        print(visible(made.table(name).head(40).to_string(index=False)))


def _token(given: str | None) -> str | int | None:
    if given is not None and given.startswith("#") and given[1:].isdigit():
        return int(given[1:])
    return given


def _progress(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty() and done in (0, total):
        say(f"{what} {done}/{total}")
