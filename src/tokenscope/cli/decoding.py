"""How a sequence is to be decoded: the options that generate, infill, chat and fork share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.cli.options import filled

if TYPE_CHECKING:
    from tokenscope.runs.settings import Settings
    from tokenscope.trace.origin import Segment

FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="Read the text from a file instead.")
]
ColumnOption = Annotated[str, typer.Option("--column", "-c", help="What the colours show.")]
SaveOption = Annotated[
    Path | None, typer.Option("--save", help="Keep the trace in a file (read it with ts.read).")
]
LanguageOption = Annotated[str, typer.Option(help="Language of the code. Default: detected.")]
AlternativesOption = Annotated[
    int | None, typer.Option(min=0, max=100, help="How many candidates each position keeps.")
]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="Outside a terminal: print what was given too.")
]


@dataclass(frozen=True, slots=True)
class Decoding:
    """The options as they were given; None: not given. Names and meaning are those of Settings."""

    max_new_tokens: int | None = 128
    temperature: float | None = 0.0
    top_k: int | None = 0
    top_p: float | None = 1.0
    min_p: float | None = 0.0
    repetition_penalty: float | None = 1.0
    seed: int | None = 0
    stop: list[str] | None = None
    alternatives: int | None = 10
    attention: str | None = "top"
    speculate: str | None = "auto"
    edits: Path | None = None

    def settings(self, of: Segment | None = None) -> Settings:
        """As Settings; what was not given is as it was in ``of``. Raises InputError."""
        from tokenscope.runs.settings import Settings

        given = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.edits is not None:
            from tokenscope.runs.edits import read_edits

            given["edits"] = read_edits(self.edits)
        asked = {n: v for n, v in given.items() if v is not None}
        return Settings(**asked) if of is None else Settings.of(of, **asked)


OPTIONS: dict[str, Any] = {
    "max_new_tokens": Annotated[int | None, typer.Option("--max-new-tokens", "-n", min=0)],
    "temperature": Annotated[float | None, typer.Option("--temperature", "-t", help="0: greedy.")],
    "top_k": Annotated[int | None, typer.Option(min=0, help="0: off.")],
    "top_p": Annotated[float | None, typer.Option(help="1: off.")],
    "min_p": Annotated[float | None, typer.Option(help="0: off.")],
    "repetition_penalty": Annotated[float | None, typer.Option(help="1: off.")],
    "seed": Annotated[int | None, typer.Option(min=0)],
    "stop": Annotated[list[str] | None, typer.Option(help="End before this text (repeat).")],
    "alternatives": AlternativesOption,
    "attention": Annotated[str | None, typer.Option(help="What to record: none, top or full.")],
    "speculate": Annotated[
        str | None, typer.Option(help="auto: check what repeats in one pass (same tokens); none.")
    ],
    "edits": Annotated[
        Path | None, typer.Option("--edits", help="A TOML file of edits: bans, grammars ...")
    ],
}


def decodes(command: Callable[..., int]) -> Callable[..., int]:
    """A command whose parameter ``how`` is filled from the options above."""
    return filled(command, "how", Decoding(), OPTIONS)


def decodes_on(command: Callable[..., int]) -> Callable[..., int]:
    """The same for one that goes on from a trace: what is not given is as the trace was made."""
    return filled(command, "how", Decoding(*[None] * len(fields(Decoding))), OPTIONS)
