"""``tokenscope explore``: what else would have been written, and how likely."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.cli.decoding import FileOption, LanguageOption
from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say, table
from tokenscope.cli.texts import given, saved
from tokenscope.control import Control
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.runs.explored import Explored
    from tokenscope.runs.forked import Forking
    from tokenscope.trace import Trace

SHOWN = 20  # branches in the table of a terminal
MASSES_OF = {
    "model": "of the model's own distribution", "edits": "of the distribution after edits",
    "sampler": "of the distribution after edits and sampler",
}  # fmt: skip


@opens_a_model
def explore(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from stdin.")] = None,
    file: FileOption = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Explore a saved trace instead of a prompt.")
    ] = None,
    at: Annotated[
        int | None,
        typer.Option(min=1, help="The token to explore from. Default: the first generated one."),
    ] = None,
    way: Annotated[
        str, typer.Option(help="enumerated (exact masses), sampled, or greedy (per alternative).")
    ] = "enumerated",
    width: Annotated[int, typer.Option(min=1, help="Alternatives of one decision.")] = 4,
    depth: Annotated[
        int | None,
        typer.Option(min=0, help="Decisions on one path. Default: 2; no limit in parts."),
    ] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Tokens that each branch is read for.")] = 12,
    region: Annotated[str, typer.Option(metavar="A:B", help="Decide only at tokens A..B-1.")] = "",
    whole: Annotated[
        bool, typer.Option("--whole", help="Decide anywhere, most mass first.")
    ] = False,
    gate: Annotated[
        float, typer.Option(help="Decide only where the entropy is this many nats.")
    ] = 0.0,
    cover: Annotated[
        float, typer.Option(help="Take alternatives until they hold this share.")
    ] = 1.0,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="Decode at most so many.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Branches, at most.")] = 500,
    draws: Annotated[int, typer.Option(min=1, help="Sampled: how many continuations.")] = 100,
    drawn: Annotated[
        bool,
        typer.Option("--drawn", help="Masses of what is drawn from: after edits and sampler."),
    ] = False,
    edits: Annotated[
        Path | None, typer.Option(help="Drawn, sampled: edits from a TOML file.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-t", help="Drawn, sampled. Default: the trace's."),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Drawn, sampled. Default: the trace's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Sampled: the first seed.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A branch ends at this text (repeat).")
    ] = None,
    forking: Annotated[
        bool, typer.Option("--forking", help="Instead: which tokens change what comes of the text.")
    ] = False,
    outcome: Annotated[
        str, typer.Option(help="bytes, syntax, regex:PATTERN, query:PATTERN or behaviour:FILE.")
    ] = "syntax",
    memory: Annotated[
        int | None,
        typer.Option(min=1, help="MB that all branches may take. Default: what is free."),
    ] = None,
    language: LanguageOption = "",
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Branches from one point with their masses, and what they come to."""
    from tokenscope.explore.asked import Ask
    from tokenscope.explore.keys import key_of
    from tokenscope.runs.edits import read_edits
    from tokenscope.runs.explore import Exploring

    key_of(outcome)  # refused before a model is loaded
    between = _region(region)
    if depth is None and not (whole or between):
        depth = 2
    ask = Ask(
        way=way, width=width, depth=depth, cover=cover, gate=gate,  # type: ignore[arg-type]
        region=between, horizon=horizon, stop=tuple(stop or ()), budget_tokens=budget_tokens,
        most=most, draws=draws,
    )  # fmt: skip
    asked = {"temperature": temperature, "top_p": top_p, "seed": seed}
    sampler: dict[str, Any] = {n: v for n, v in asked.items() if v is not None}
    if edits is not None:
        sampler["edits"] = read_edits(edits)
    if sampler and not (drawn or way == "sampled"):
        raise InputError("--drawn", "is needed for masses under a sampler or edits")
    source: str | Trace
    if trace is not None:
        if prompt is not None or file is not None:
            raise InputError("PROMPT", "give a prompt or --trace, not both")
        source = saved(trace, "--trace")
    else:
        source = given(prompt, file, "PROMPT")
    engine = wanted.load()
    if forking:
        written = source if not isinstance(source, str) else engine.generate(
            source, max_new_tokens=horizon, language=language, attention="none",
            alternatives=max(width, 10), stop=tuple(stop or ()),
        )  # fmt: skip
        return show_forking(
            engine.forking(
                written, threshold=gate or 0.5, width=width, outcome=outcome, language=language,
                stop=tuple(stop or ()),
            ), as_json,
        )  # fmt: skip
    control = Control()
    work = Exploring(
        engine, source, at, ask=ask, outcome=outcome, language=language, control=control,
        memory=None if memory is None else memory * 1_000_000,
        sampler=sampler if drawn or way == "sampled" else None,
    )  # fmt: skip
    say(str(work.cost))

    def interrupt(number: int, frame: FrameType | None) -> None:
        control.cancel()  # what is decoded is shown

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        found = work.run()
    finally:
        signal.signal(signal.SIGINT, before)
    if as_json:
        document(found.to_json())
    else:
        show(found)
    return 130 if control.cancelled else 0


def show_forking(found: Forking, as_json: bool) -> int:
    """The measured tokens, the largest change first."""
    plain = found.to_json()
    if as_json:
        document(plain)
        return 0
    table(found.to_pandas().head(SHOWN))
    checked = plain["checked"]
    say(
        f"{plain['skipped']} of {plain['tokens']} tokens skipped; of {checked['n']} of them that "
        f"were measured too {checked['missed']} change the outcome (largest: {checked['most']:.3f})"
    )
    return 0


def show(found: Explored) -> None:
    """Outcomes and the likeliest branches to stdout, what the numbers are to stderr."""
    import pandas as pd

    plain = found.to_json()
    names = ("name", "mass", "low", "high", "label")
    rows: list[dict[str, Any]] = [
        {**{n: o[n] for n in names}, "branches": len(o["branches"])} for o in plain["outcomes"]
    ]
    table(pd.DataFrame(rows).head(SHOWN)[["name", "mass", "low", "high", "branches", "label"]])
    print(f"unexplored {plain['unexplored']:.3f}")
    columns = ("name", "at", "mass", "outcome", "finish", "text")
    table(pd.DataFrame([{n: b[n] for n in columns} for b in plain["branches"]]).head(SHOWN))
    e = plain["entropy"]
    say(
        f"{plain['way']}, masses {MASSES_OF[plain['masses_of']]}; entropy of outcomes "
        f"{e['value']:.3f} nats (bounds {e['low']:.3f} .. {e['high']:.3f}); {plain['tokens']} "
        f"tokens in {plain['seconds']:.1f} s"
    )
    if not found.finished:
        why = {"": "", "branches": " (--most)", "tokens": " (--budget-tokens)",
               "memory": " (--memory)"}[plain["ended"]]  # fmt: skip
        say(f"not everything that was asked for is decoded{why}")


def _region(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    start, colon, end = text.partition(":")
    if not colon or not (start.isdecimal() and end.isdecimal()):
        raise InputError("--region", "must be A:B, two token indices")
    return int(start), int(end)
