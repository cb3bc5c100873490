"""``tokenscope fork`` and ``tree``: branches of saved traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.cli.decoding import ColumnOption, Decoding, SaveOption, decodes_on
from tokenscope.cli.options import HtmlOption, JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, fitted, result, visible, writable
from tokenscope.cli.texts import refuse, saved, token_of
from tokenscope.cli.watch import show
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.trace import Trace

TraceArgument = Annotated[Path, typer.Argument(help="A trace that was saved.", metavar="TRACE")]


@opens_a_model
@decodes_on
def fork(
    trace: TraceArgument,
    at: Annotated[int, typer.Option(min=0, help="Index of the token where the branch begins.")],
    token: Annotated[
        str | None, typer.Option(help="What stands there instead: text, or #id. Default: redraw.")
    ] = None,
    alternative: Annotated[
        int | None,
        typer.Option(min=1, help="Instead: the candidate of that rank."),
    ] = None,
    *,
    how: Decoding,
    column: ColumnOption = "surprisal",
    save: SaveOption = None,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Grow a branch from a saved trace: another token at one place, then what the model makes.

    What is not given is as the trace was made, its seed included.
    """
    from dataclasses import replace

    from tokenscope.runs.generate import fork as start

    refuse(column, "", save)
    held = saved(trace)
    if at > len(held):
        raise InputError("--at", f"must be a token index in 0..{len(held)}")
    if token is not None and alternative is not None:
        raise InputError("--token", "give it or --alternative, not both")
    put: str | int = token_of(token) or ""
    if alternative is not None:
        put = candidate(held, at, alternative)
    settings = how.settings(held.origin.segment(min(at, len(held) - 1)) or last(held))
    engine = replace(wanted, dtype=wanted.dtype or held.origin.dtype or None).load()
    return show(start(engine, held, at, put, settings), column, save, as_json)


def candidate(trace: Trace, at: int, rank: int) -> int:
    """The id of the alternative of that rank. Raises InputError when none was recorded."""
    ids = [] if trace.alternatives is None or at >= len(trace) else trace.alternatives.ids[at]
    if rank > len(ids) or int(ids[rank - 1]) < 0:
        raise InputError("--alternative", f"token {at} has no recorded candidate of rank {rank}")
    return int(ids[rank - 1])


def last(trace: Trace) -> Any:
    """How the trace's last drawn tokens were made; None for a score."""
    return trace.origin.segments[-1] if trace.origin.segments else None


def tree(
    traces: Annotated[list[Path], typer.Argument(help="Saved traces.", metavar="TRACE...")],
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show how saved traces branch off one another: where, with which token, how likely."""
    from tokenscope.trace import Tree

    if html is not None:
        writable(html, "--html")
    names = unique([path.stem for path in traces])
    made = Tree.of({n: saved(path) for n, path in zip(names, traces, strict=True)})
    if html is not None:
        made.save_html(html)
    if as_json:
        files = dict(zip(names, map(str, traces), strict=True))
        document({"branches": [{**row, "file": files[row["name"]]} for row in made.rows()]})
        return 0
    for line in lines(made.rows()):
        result(fitted(line))
    return 0


def unique(names: list[str]) -> list[str]:
    """The names with a number behind those that came before."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return out


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """One line per branch, drawn as a tree: what it has for what, its figures, how it goes on."""
    out: list[str] = []
    for n, row in enumerate(rows):
        marks = ""
        for depth in range(1, row["depth"] + 1):
            more = _another(rows[n + 1 :], depth)
            last_level = depth == row["depth"]
            marks += ("├─ " if more else "└─ ") if last_level else ("│  " if more else "   ")
        change = f"  at {row['at']}: {_quoted(row['own'])} for {_quoted(row['instead'])}"
        mean = row["mean_surprisal"]
        figures = "" if mean is None else f", {mean:.2f} nats each, {row['joint_logprob']:.1f} all"
        text = _quoted(row["text"][:80])
        out.append(
            f"{marks}{visible(row['name'])}{change if row['parent'] else ''}  "
            f"({row['tokens']} tokens{figures})  {text}"
        )
    return out


def _another(rows: list[dict[str, Any]], depth: int) -> bool:
    """Whether a sibling at that depth comes before the tree goes back above it."""
    for row in rows:
        if row["depth"] <= depth:
            return bool(row["depth"] == depth)
    return False


def _quoted(text: str) -> str:
    return visible(repr(text)) if text else "nothing"
