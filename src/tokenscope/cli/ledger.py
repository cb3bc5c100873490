"""``tokenscope ledger``: arms of edits over prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.decoding import Decoding, LanguageOption, decodes
from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say, table
from tokenscope.cli.texts import given
from tokenscope.errors import InputError


@opens_a_model
@decodes
def ledger(
    prompts: Annotated[
        Path, typer.Argument(help="A file: one prompt a line, or JSON lines of strings.")
    ],
    arm: Annotated[
        list[str], typer.Option(metavar="NAME=FILE", help="Edits as TOML, under a name (repeat).")
    ],
    outcome: Annotated[
        str, typer.Option(help="bytes, syntax, regex:PATTERN or query:PATTERN.")
    ] = "syntax",
    reference: Annotated[
        Path | None, typer.Option(help="A text on which the damage is measured.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Seeds of each prompt.")] = 1,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the table as a page of its own.")
    ] = None,
    *,
    how: Decoding,
    language: LanguageOption = "",
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Which edits change the outcome most for the least damage, beside no edits at all."""
    from dataclasses import replace

    from tokenscope.explore.keys import key_of
    from tokenscope.runs.edits import read_edits
    from tokenscope.runs.ledger import ledger as run

    key_of(outcome)
    arms = {}
    for one in arm:
        name, is_, file = one.partition("=")
        if not (name and is_ and file):
            raise InputError("--arm", "must be NAME=FILE")
        arms[name] = read_edits(Path(file))
    asked = _prompts(given(None, prompts, "PROMPTS"))
    text = given(None, reference, "--reference") if reference is not None else ""
    settings = replace(how.settings(), attention="none", alternatives=0)
    made = run(
        wanted.load(), asked, arms, outcome=outcome, reference=text, draws=draws,
        language=language, settings=settings,
    )  # fmt: skip
    if html is not None:
        made.save_html(html)
    if as_json:
        document(made.to_json())
    else:
        table(made.to_pandas())
        say("price and nats are in nats; *_vs_none: the paired difference from no edits")
    return 0


def _prompts(text: str) -> list[str]:
    """One a line; a line that is a JSON string stands for what it says."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        prompt = line.removesuffix("\r")
        if line.lstrip().startswith('"'):
            try:
                prompt = json.loads(line)
            except ValueError as error:
                raise InputError("PROMPTS", f"line {number} is no JSON string") from error
        found.append(prompt)
    return found
