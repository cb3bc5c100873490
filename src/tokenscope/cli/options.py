"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="A folder, a GGUF file, a hub id, or a server's address. Default: bundled."
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16, float16 or int8. Default: what fits."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1 or cuda:0,cuda:1. Default: cuda if there."),
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
ServersOption = Annotated[
    list[str] | None,
    typer.Option("--allow-server", help="A model server elsewhere that prompts may go to."),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="What the process may take, e.g. 6GB or 800MB; the rest stays on the disk (slow).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write the picture as one file for a browser.")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Where sessions are kept. Default: your XDG data folder."),
]


DTYPES = ("float32", "bfloat16", "float16", "int8")
STARTS = ("auto", "always", "never")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The model that a command was asked to use, and how to open it: the same options for all."""

    model: str | None = None
    dtype: str | None = None
    device: str | None = None
    allow_network: bool = False
    start_token: str = "auto"
    allow_links: bool = False
    allow_servers: list[str] | None = None
    kept_bytes: int | None = None
    max_memory: str | None = None

    def load(self, root: Path | None = None) -> Model:
        """Open it. Torch is imported here, not before."""
        from tokenscope.cli.pace import waiting

        self.refuse()
        with waiting(f"loading {Path(self.model).name!r}" if self.model else "loading the model"):
            import transformers

            from tokenscope.runs.model import load

            transformers.utils.logging.set_verbosity_error()
            transformers.utils.logging.disable_progress_bar()
            return load(
                self.model, dtype=self.dtype, device=self.device,
                allow_network=self.allow_network, root=root,
                start_token=self.start_token,  # type: ignore[arg-type]
                allow_links=self.allow_links, kept_bytes=self.kept_bytes,
                allow_servers=self.allow_servers or (), max_memory=in_bytes(self.max_memory),
            )  # fmt: skip

    def refuse(self) -> None:
        """What can be told of the options before a library is imported. Raises InputError."""
        for option, value, known in (
            ("--dtype", self.dtype, DTYPES), ("--start-token", self.start_token, STARTS),
        ):  # fmt: skip
            if value is not None and value not in known:
                raise InputError(option, f"must be {', '.join(known[:-1])} or {known[-1]}")
        in_bytes(self.max_memory)


UNITS = {"": 2**30, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(?:([kmgt])(i?)b?)?", re.IGNORECASE)


def in_bytes(text: str | None, option: str = "--max-memory") -> int | None:
    """``6GB``, ``800 MB``, ``1.5GiB``; a bare number counts GiB. Raises InputError."""
    if text is None:
        return None
    found = SIZE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise InputError(option, "is a size such as 6GB or 800MB")
    unit = (found[2] or "").lower()
    scale = 2 ** (10 * " kmgt".index(unit)) if unit and found[3] else UNITS[unit]
    return int(float(found[1]) * scale)


OPTIONS: dict[str, Any] = {
    "model": ModelOption, "dtype": DtypeOption, "device": DeviceOption,
    "allow_network": NetworkOption, "start_token": StartOption, "allow_links": LinksOption,
    "allow_servers": ServersOption, "max_memory": MemoryOption,
}  # fmt: skip
"""Name of a field of :class:`Wanted` -> its option on the command line."""


def opens_a_model(command: Callable[..., int]) -> Callable[..., int]:
    """A command whose parameter ``wanted`` is filled from the options above, which stand in its
    help where ``wanted`` stands in its signature."""
    return filled(command, "wanted", Wanted(), OPTIONS)


def filled(
    command: Callable[..., int], field: str, default: Any, options: Mapping[str, Any]
) -> Callable[..., int]:
    """A command whose parameter ``field`` is an object like ``default``, made from ``options``."""
    given = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters: list[inspect.Parameter] = []
    for name, parameter in given.parameters.items():
        if name != field:
            parameters.append(parameter.replace(kind=keyword))
            continue
        parameters += [
            inspect.Parameter(n, keyword, default=getattr(default, n), annotation=kind)
            for n, kind in options.items()
        ]

    @functools.wraps(command)
    def whole(**others: Any) -> int:
        made = replace(default, **{name: others.pop(name) for name in options})
        return command(**{field: made}, **others)

    del whole.__wrapped__
    whole.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]
    whole.__annotations__ = {p.name: p.annotation for p in parameters}
    return whole
