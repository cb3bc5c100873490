"""``tokenscope show``: a saved trace, its tokens, one with its alternatives; other formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.cli.decoding import ColumnOption
from tokenscope.cli.options import HtmlOption, JsonOption
from tokenscope.cli.output import document, result, say, table, writable
from tokenscope.cli.texts import saved
from tokenscope.cli.watch import summary
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.trace import Trace

FORMATS = (".parquet", ".arrow", ".csv", ".json")


def show(
    trace: Annotated[Path, typer.Argument(help="A trace that was saved.", metavar="TRACE")],
    at: Annotated[
        int | None, typer.Option(help="One token: every column, and its alternatives.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="A table with a row per token.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write it as .parquet, .arrow, .csv or .json."),
    ] = None,
    html: HtmlOption = None,
    picture: Annotated[
        str, typer.Option(help="Of --html: tokens, attention, heads or icicle.")
    ] = "tokens",
    column: ColumnOption = "surprisal",
    as_json: JsonOption = False,
) -> int:
    """Look at a saved trace: coloured by a column, as a table, or one token; or export it."""
    if out is not None:
        writable(out, "--out")
        if out.suffix not in FORMATS:
            raise InputError("--out", f"must end in {', '.join(FORMATS)}")
    if html is not None:
        writable(html, "--html")
    held = saved(trace)
    held.column_of(column)
    if at is not None and not 0 <= at < len(held):
        raise InputError("--at", f"must be a token index in 0..{len(held) - 1}")
    if html is not None:
        by = {"column": column} if picture in ("tokens", "icicle") else {}
        say(f"{held.save_html(html, picture, **by)}: {picture}")
        return 0
    if out is not None:
        from tokenscope.disk import write_whole
        from tokenscope.export import trace_bytes

        write_whole(out, [trace_bytes(held, out.suffix[1:])], mode=0o644)
        say(f"{out}: {len(held)} tokens")
        return 0
    if as_json:
        whole = json.loads(held.to_json())
        document(whole if at is None else one(held, at, whole))
    elif at is not None:
        token(held, at)
    elif tokens:
        table(held.to_pandas().drop(columns=["start", "end"]))
    else:
        painted(held, column)
    return 0


def one(trace: Trace, at: int, whole: dict[str, Any]) -> dict[str, Any]:
    """A token with its value in every column, as JSON takes it."""
    values = {name: column["values"][at] for name, column in whole["columns"].items()}
    return {**whole["tokens"][at], "columns": values}


def token(trace: Trace, at: int) -> None:
    """Print a token's columns, and what else could have stood there."""
    import math

    import pandas as pd

    held = trace.tokens[at]
    made = "given" if at < trace.n_prompt else "generated"
    result(f"token {at}, id {held.id}: {held.text!r} ({made})")
    for name, column in trace.columns.items():
        value = float(column.values[at])
        if math.isfinite(value):
            mark = "" if column.quality == "exact" else f" ({column.quality})"
            result(f"  {name:16} {value:12.4f} {column.spec.unit}{mark}")
    if trace.alternatives is None:
        return
    rows = trace.alternatives.row(at, held.id)
    frame = pd.DataFrame(
        {
            "rank": [a.rank for a in rows],
            "probability": [math.exp(a.logprob) for a in rows],
            "id": [a.id for a in rows],
            "text": [repr(a.label or a.bytes.decode("utf-8", "replace")) for a in rows],
            "": ["<" if a.chosen else "" for a in rows],
        }
    )
    if len(frame):
        table(frame)


def painted(trace: Trace, column: str) -> None:
    """The whole trace in colours; elsewhere what was generated (of a score, everything)."""
    from rich.console import Console

    from tokenscope.cli.paint import Painter

    painter = Painter(Console(highlight=False, markup=False), column)
    values = trace.column(column).tolist()
    begin = trace.n_prompt if trace.n_prompt < len(trace) else 0
    painter.tokens(trace.tokens.slice(0, begin), values[:begin], True)
    painter.tokens(trace.tokens.slice(begin, len(trace)), values[begin:], False)
    painter.finish()
    if painter.coloured:
        Console(stderr=True, highlight=False).print(painter.legend())
    say(summary(trace))
