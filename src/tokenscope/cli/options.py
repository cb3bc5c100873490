"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="A folder in Hugging Face format, or a hub id. Default: bundled."),
]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help="float32, bfloat16 or float16. Default: what fits.")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1 ... Default: cuda if there.")
]
NetworkOption = Annotated[
    bool, typer.Option("--allow-network", help="Let a hub id be fetched from the hub.")
]
LinksOption = Annotated[
    bool, typer.Option("--allow-links", help="The model's files may be links to other folders.")
]
StartOption = Annotated[
    str,
    typer.Option(
        "--start-token",
        help="Before plain prompts: auto (as the model's tokenizer does), always or never.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Where sessions are kept. Default: your XDG data folder."),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The model that a command was asked to use, and how to open it: the same options for all."""

    model: str | None = None
    dtype: str | None = None
    device: str | None = None
    allow_network: bool = False
    start_token: str = "auto"
    allow_links: bool = False
    kept_bytes: int | None = None

    def load(self, root: Path | None = None) -> Model:
        """Open it. Torch is imported here, not before."""
        import transformers

        from tokenscope.runs.model import load

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        return load(
            self.model, dtype=self.dtype, device=self.device, allow_network=self.allow_network,
            root=root, start_token=self.start_token,  # type: ignore[arg-type]
            allow_links=self.allow_links, kept_bytes=self.kept_bytes,
        )  # fmt: skip


OPTIONS: dict[str, Any] = {
    "model": ModelOption, "dtype": DtypeOption, "device": DeviceOption,
    "allow_network": NetworkOption, "start_token": StartOption, "allow_links": LinksOption,
}  # fmt: skip
"""Name of a field of :class:`Wanted` -> its option on the command line."""


def opens_a_model(command: Callable[..., int]) -> Callable[..., int]:
    """A command whose parameter ``wanted`` is filled from the options above, which stand in its
    help where ``wanted`` stands in its signature."""
    default = Wanted()
    given = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters: list[inspect.Parameter] = []
    for name, parameter in given.parameters.items():
        if name != "wanted":
            parameters.append(parameter.replace(kind=keyword))
            continue
        parameters += [
            inspect.Parameter(n, keyword, default=getattr(default, n), annotation=kind)
            for n, kind in OPTIONS.items()
        ]

    @functools.wraps(command)
    def filled(**options: Any) -> int:
        wanted = Wanted(**{name: options.pop(name) for name in OPTIONS})
        return command(wanted=wanted, **options)

    del filled.__wrapped__
    filled.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]
    filled.__annotations__ = {p.name: p.annotation for p in parameters}
    return filled
