"""``tokenscope generate`` and ``tokenscope score``."""

from __future__ import annotations

import json
import math
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say, writable
from tokenscope.cli.paint import Painter
from tokenscope.errors import InputError
from tokenscope.trace.columns import COLUMNS

if TYPE_CHECKING:
    from tokenscope.runs.run import Run
    from tokenscope.runs.windows import Windows
    from tokenscope.trace import Trace

MOST_INPUT = 8 << 20
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="Read the text from a file instead.")
]
ColumnOption = Annotated[str, typer.Option("--column", "-c", help="What the colours show.")]
SaveOption = Annotated[
    Path | None, typer.Option("--save", help="Keep the trace in a file (read it with ts.read).")
]
LanguageOption = Annotated[str, typer.Option(help="Language of the code. Default: detected.")]
AlternativesOption = Annotated[
    int, typer.Option(min=0, max=100, help="How many candidates each position keeps.")
]


@opens_a_model
def generate(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from stdin.")] = None,
    file: FileOption = None,
    suffix: Annotated[str | None, typer.Option(help="Infill: what comes after the hole.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=0)] = 128,
    temperature: Annotated[float, typer.Option("--temperature", "-t", help="0: greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="0: off.")] = 0,
    top_p: Annotated[float, typer.Option(help="1: off.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="0: off.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="1: off.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text (repeat).")] = None,
    alternatives: AlternativesOption = 10,
    attention: Annotated[str, typer.Option(help="none, top or full.")] = "none",
    speculate: Annotated[
        str, typer.Option(help="auto: check what repeats in one pass (same tokens); none.")
    ] = "auto",
    language: LanguageOption = "",
    column: ColumnOption = "surprisal",
    save: SaveOption = None,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Continue a prompt; in a terminal the tokens are coloured by a column as they come."""
    from tokenscope.runs.generate import Settings
    from tokenscope.runs.generate import generate as start

    refuse(column, language, save)
    text = given(prompt, file, "PROMPT")
    settings = Settings(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        min_p=min_p, repetition_penalty=repetition_penalty, seed=seed, stop=tuple(stop or ()),
        alternatives=alternatives, attention=attention,  # type: ignore[arg-type]
        speculate=speculate,  # type: ignore[arg-type]
    )  # fmt: skip
    engine = wanted.load()
    run = start(engine, prompt=text, suffix=suffix, language=language, settings=settings)
    return show(run, column, save, as_json)


@opens_a_model
def score(
    file: Annotated[Path | None, typer.Argument(help="The code; - reads it from stdin.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="The code itself instead.")] = None,
    alternatives: AlternativesOption = 10,
    language: LanguageOption = "",
    column: ColumnOption = "surprisal",
    save: SaveOption = None,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Measure code that someone else wrote, token by token."""
    from tokenscope.runs.windows import score as start

    refuse(column, language, save)
    if file == Path("-"):
        file, text = None, "-"
    code = given(text, file, "FILE")
    engine = wanted.load()
    run = start(engine, code, language=language, alternatives=alternatives)
    return show(run, column, save, as_json)


def refuse(column: str, language: str, save: Path | None) -> None:
    """What can be told before a model is loaded. Raises UnknownName, InputError."""
    import tokenscope.metrics  # noqa: F401 (registers the columns that a run measures)
    from tokenscope.code.aliases import chosen

    COLUMNS.get(column)
    if language:
        chosen(language)
    if save is not None:
        writable(save, "--save")


def given(text: str | None, file: Path | None, field: str) -> str:
    """The text itself, that of a file, or (``-``) of stdin. Raises InputError."""
    if (text is None) == (file is None):
        raise InputError(field, "give exactly one of a text, a file, and - for stdin")
    if file is not None:
        try:
            with open(file, "rb") as opened:
                return decoded(opened.read(MOST_INPUT + 1), field)
        except OSError as error:
            raise InputError(field, f"cannot be read: {error.strerror}") from error
    if text == "-":
        return decoded(sys.stdin.buffer.read(MOST_INPUT + 1), "stdin")
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise InputError(field, "is not valid UTF-8") from None
    return text or ""


def decoded(data: bytes, field: str) -> str:
    """Bytes as text. Raises InputError when there are too many, or they are no UTF-8."""
    if len(data) > MOST_INPUT:
        raise InputError(field, f"holds more than {MOST_INPUT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(field, f"is not UTF-8 (byte {error.start})") from None


def show(run: Run | Windows, column: str, save: Path | None, as_json: bool) -> int:
    """Run it: coloured to stdout as it goes, or one document at the end. 130 when interrupted."""
    painter = None if as_json else Painter(Console(highlight=False, markup=False), column)

    def interrupt(number: int, frame: FrameType | None) -> None:
        run.cancel()  # ends within a step; what was decoded is still shown

    before = signal.signal(signal.SIGINT, interrupt)
    if run.cost:
        say(run.cost)
    try:
        if painter is not None:
            paint(run, painter)
            if painter.coloured:  # the result alone is on stdout: the legend goes beside it
                Console(stderr=True, highlight=False).print(painter.legend())
        else:
            for _ in run:
                pass
    finally:
        signal.signal(signal.SIGINT, before)
    trace = run.trace
    if save is not None:
        keep(trace, save)
    if as_json:
        document(json.loads(trace.to_json()))
    else:
        say(summary(trace))
    return 130 if trace.finish == "cancelled" else 0


def paint(run: Run | Windows, painter: Painter) -> None:
    """Print what is shared, then every step."""
    if run.shared is not None:
        values = run.shared.columns[painter.column].values.tolist()
        painter.tokens(run.shared.tokens, values, run.trace.n_prompt >= len(run.shared))
    scoring = run.trace.origin.form == "score"
    for step in run:
        if len(step.tokens):
            if painter.column not in step.columns:
                run.trace.column_of(painter.column)  # raises, and names the columns there are
            values = step.columns[painter.column].tolist()
            painter.tokens(step.tokens, values, step.prompt and not scoring)
    painter.finish()


def keep(trace: Trace, path: Path) -> None:
    """Save a trace. Raises InputError when the file cannot be written."""
    try:
        trace.save(path)
    except OSError as error:
        raise InputError("--save", f"cannot be written: {error.strerror}") from error


def summary(trace: Trace) -> str:
    """One line of figures."""
    figures = trace.summary()
    parts = [f"{figures['generated_tokens']:.0f} tokens after {trace.n_prompt}"]
    for name, label, unit in (
        ("perplexity", "perplexity", ""), ("mean_entropy", "mean entropy", " nats"),
        ("bits_per_byte", "bits per byte", ""), ("tokens_per_s", "tokens/s", ""),
    ):  # fmt: skip
        if math.isfinite(figures[name]):
            parts.append(f"{label} {figures[name]:.3g}{unit}")
    return f"{', '.join(parts)}; ended by: {trace.finish}"
