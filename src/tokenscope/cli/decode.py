"""``tokenscope generate``, ``infill`` and ``score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.decoding import (
    AlternativesOption,
    ColumnOption,
    Decoding,
    FileOption,
    LanguageOption,
    SaveOption,
    WholeOption,
    decodes,
)
from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.texts import decoded_argument, given, refuse
from tokenscope.cli.watch import show
from tokenscope.errors import InputError


@opens_a_model
@decodes
def generate(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from stdin.")] = None,
    file: FileOption = None,
    suffix: Annotated[str | None, typer.Option(help="Infill: what comes after the hole.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message; the answer comes.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="With --chat: the system message.")] = None,
    *,
    how: Decoding,
    whole: WholeOption = False,
    language: LanguageOption = "",
    column: ColumnOption = "surprisal",
    save: SaveOption = None,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Continue a prompt; in a terminal the tokens are coloured by a column as they come."""
    from tokenscope.runs.generate import generate as start

    refuse(column, language, save)
    settings = how.settings()
    text = given(prompt, file, "PROMPT")
    if chat and suffix is not None:
        raise InputError("--suffix", "an infill is no chat")
    if whole and (chat or suffix is not None):
        raise InputError("--whole", "is for plain prompts; `infill` has one of its own")
    if system is not None and not chat:
        raise InputError("--system", "goes with --chat")
    engine = wanted.load()
    if chat:
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": decoded_argument(system, "--system")})
        run = start(engine, messages=messages, language=language, settings=settings)
    else:
        run = start(engine, prompt=text, suffix=suffix, language=language, settings=settings)
    return show(run, column, save, as_json, (text, "") if whole else ("", ""))


@opens_a_model
@decodes
def infill(
    prefix: Annotated[str | None, typer.Argument(help="What stands before the hole.")] = None,
    suffix: Annotated[str | None, typer.Argument(help="What stands after it.")] = None,
    file: FileOption = None,
    hole: Annotated[
        str, typer.Option(help="With --file: the text that marks the hole; it stands there once.")
    ] = "<HOLE>",
    *,
    how: Decoding,
    whole: WholeOption = False,
    language: LanguageOption = "",
    column: ColumnOption = "surprisal",
    save: SaveOption = None,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Write what belongs between two texts, or into the hole of a file."""
    from tokenscope.runs.generate import generate as start

    refuse(column, language, save)
    settings = how.settings()
    if file is not None:
        if prefix is not None:
            raise InputError("PREFIX", "give two texts, or a --file with a hole")
        pieces = given(None, file, "--file").split(hole) if hole else []
        if len(pieces) != 2:
            raise InputError("--hole", f"must stand in the file once, found {len(pieces) - 1}")
        prefix, suffix = pieces
    elif prefix is None or suffix is None:
        raise InputError("PREFIX", "give two texts, or a --file with a hole")
    before = decoded_argument(prefix, "PREFIX")
    after = decoded_argument(suffix or "", "SUFFIX")
    engine = wanted.load()
    run = start(engine, prompt=before, suffix=after, language=language, settings=settings)
    return show(run, column, save, as_json, (before, after) if whole else ("", ""))


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
    run = start(engine, code, language=language, alternatives=10 if alternatives is None
                else alternatives)  # fmt: skip
    return show(run, column, save, as_json)
