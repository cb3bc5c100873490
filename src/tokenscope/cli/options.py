"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


def loaded(
    model: str | None, dtype: str | None, device: str | None, allow_network: bool,
    root: Path | None = None, start_token: str = "auto", allow_links: bool = False,
) -> Model:  # fmt: skip
    """The model that the options ask for. Torch is imported here, not before."""
    import transformers

    from tokenscope.runs.model import load

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return load(
        model, dtype=dtype, device=device, allow_network=allow_network, root=root,
        start_token=start_token, allow_links=allow_links,  # type: ignore[arg-type]
    )  # fmt: skip
