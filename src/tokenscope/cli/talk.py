"""``tokenscope chat``: messages and answers, one after another, or a single one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenscope.cli.decoding import (
    ColumnOption,
    Decoding,
    FileOption,
    LanguageOption,
    SaveOption,
    decodes,
)
from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say
from tokenscope.cli.texts import decoded_argument, given, refuse, saved
from tokenscope.cli.watch import keep, summary, watch
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.trace import Trace

Message = dict[str, str]


@opens_a_model
@decodes
def chat(
    message: Annotated[
        str | None,
        typer.Argument(help="A message; - reads it from stdin. None: type one after another."),
    ] = None,
    file: FileOption = None,
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    after: Annotated[
        Path | None, typer.Option("--after", help="Go on with the conversation of a saved trace.")
    ] = None,
    *,
    how: Decoding,
    language: LanguageOption = "",
    column: ColumnOption = "surprisal",
    save: SaveOption = None,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Talk to the model. --save keeps the whole conversation, which --after takes up again.

    Without a message, in a terminal: a line is a message; Ctrl-C ends an answer, Ctrl-D the talk.
    """
    from tokenscope.backends.protocol import chat as able
    from tokenscope.runs.generate import generate as start

    refuse(column, language, save)
    settings = how.settings()
    one = message is not None or file is not None
    if not one and (as_json or not sys.stdin.isatty()):
        raise InputError("MESSAGE", "give a message, a --file, or - for stdin")
    text: str | None = given(message, file, "MESSAGE") if one else None
    said = history(None if after is None else saved(after, "--after"))
    if system is not None:
        if said:
            raise InputError("--system", "the conversation has begun already")
        said.append({"role": "system", "content": decoded_argument(system, "--system")})
    engine = wanted.load()
    able(engine.backend)
    code = 0
    while (text := text if one else ask()) is not None:
        said.append({"role": "user", "content": text})
        run = start(engine, messages=said, language=language, settings=settings)
        trace = watch(run, column, as_json)
        said.append({"role": "assistant", "content": trace.generated})
        code = 130 if trace.finish == "cancelled" else 0
        if save is not None:
            keep(trace, save)
        if as_json:
            document(json.loads(trace.to_json()))
        else:
            say(summary(trace))
        if one:
            return code
    return 0


def history(trace: Trace | None) -> list[Message]:
    """The messages of a saved conversation, its answer among them. Raises InputError."""
    if trace is None:
        return []
    messages = trace.origin.request.messages
    if messages is None:
        raise InputError("--after", "is no trace of a chat")
    return [*(dict(m) for m in messages), {"role": "assistant", "content": trace.generated}]


def ask() -> str | None:
    """A line that is typed; None at the end (Ctrl-D). The mark before it goes to stderr."""
    while True:
        sys.stderr.write("> ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stderr.write("\n")
            return None
        if line.strip():
            return line.rstrip("\n")
