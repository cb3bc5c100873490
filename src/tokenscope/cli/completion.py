"""``tokenscope completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")],
) -> int:
    """Print the script that teaches a shell to complete this command."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(
        prog_name="tokenscope", complete_var="_TOKENSCOPE_COMPLETE", shell=shell,
    ))  # fmt: skip
    return 0
