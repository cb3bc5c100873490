"""``tokenscope explain``: why this token rather than that one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenscope.cli.causes import read_text
from tokenscope.cli.options import HtmlOption, JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, result, say, table, writable
from tokenscope.cli.pace import Pace
from tokenscope.cli.texts import saved, token_of
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.explain.explanation import Explanation


@opens_a_model
def explain(
    path: Annotated[
        Path | None, typer.Argument(metavar="TRACE", help="A trace kept with --save.")
    ] = None,
    at: Annotated[
        int | None, typer.Option("--at", help="Index of the token to explain.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Instead of a trace: a file of prompts (JSON lines, or one a line), "
            "averaged with intervals.",
        ),
    ] = None,
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
    html: HtmlOption = None,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Say why the model chose a token, and show what backs it."""
    from tokenscope.explain.methods import METHODS
    from tokenscope.explain.tables import TABLES

    if html is not None:
        writable(html, "--html")
    METHODS.get(method)
    for name in also or ():
        TABLES.get(name)
    if prompts is not None:
        if path is not None or at is not None or also or contrast is not None or html is not None:
            raise InputError("prompts", "stands alone: a prompt names its own at and contrast")
        return many(wanted, prompts, method, as_json)
    from tokenscope.runs.explain import Control
    from tokenscope.runs.explain import explain as start

    if path is None or at is None:
        raise InputError("TRACE", "a trace and --at are needed, or --prompts")
    trace = saved(path)
    if not 0 < at <= len(trace):
        raise InputError("--at", f"must be a token index in 1..{len(trace)}")
    engine = wanted.load()
    made = start(
        engine, trace, at, contrast=token_of(contrast), method=method, also=tuple(also or ()),
        control=Control(Pace().told),
    )  # fmt: skip
    if html is not None:
        made.save_html(html)
    if as_json:
        document(made.to_json())
    else:
        show(made)
    return 0 if made.converged else 1


def many(wanted: Wanted, path: Path, method: str, as_json: bool) -> int:
    """The same over many prompts; exit 1 where one failed."""
    from tokenscope.control import Control
    from tokenscope.runs.explain_many import explain_many, read_prompts

    given = read_prompts(read_text(path, "prompts"))
    engine = wanted.load()
    methods = list(dict.fromkeys((method, "input_x_gradient", "attention_mean")))
    made = explain_many(engine, given, methods=methods, control=Control(Pace().told))
    if as_json:
        document(made.to_json())
    else:
        print(f"{made.n} prompts; mean with 95 % bootstrap interval")
        frame = made.to_pandas()
        largest = frame[frame["what"] == "part"]["mean"].abs().nlargest(12).index
        kept = frame[(frame["what"] != "part") | frame.index.isin(largest)]
        table(kept)
    for f in made.failures:
        say(f"prompt {f['index']} {f['method']}: {f['reason']}")
    return 1 if made.failures else 0


def show(made: Explanation) -> None:
    """The sentence, the heaviest tokens, the tables; everything as plain text."""
    result(made.sentence)
    result(made.beside)
    if made.note:
        result(made.note)
    frame = made.to_pandas()
    top = frame.reindex(frame["value"].abs().sort_values(ascending=False).index).head(12)
    print(f"\n{made.method} of {made.target.kind} = {made.value:.4f} nats")
    table(top)
    for name, found in made.tables.items():
        result(f"\n{name}: {found.note}")
        table(made.table(name).head(40))
