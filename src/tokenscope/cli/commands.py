"""All commands, and what comes of an error in one."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from tokenscope import __version__
from tokenscope.cli import (
    audit,
    backup,
    bench,
    branch,
    causes,
    compare,
    completion,
    decode,
    doctor,
    explain,
    explore,
    invented,
    ledger,
    likelihood,
    look,
    models,
    plan,
    records,
    replay,
    serve,
    structure,
    talk,
)
from tokenscope.cli.output import fail
from tokenscope.errors import TokenScopeError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None,
)  # fmt: skip
for command in (
    serve.serve, decode.generate, talk.chat, decode.infill, decode.score, branch.fork, branch.tree,
    look.show, models.models, plan.plan, explain.explain, causes.patch, causes.ablate, causes.lens,
    causes.heads, structure.structure, explore.explore, compare.compare, ledger.ledger,
    replay.replay,
    bench.bench, audit.audit, audit.rules, likelihood.likelihood, likelihood.learn_edits,
    invented.invented,
    doctor.doctor, backup.backup, backup.restore, backup.purge, completion.completion,
    records.records, records.verify, records.bom,
):  # fmt: skip
    app.command()(command)


COMPLETING = "_TOKENSCOPE_COMPLETE"


def _version(asked: bool) -> None:
    if asked:
        print(f"tokenscope {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print it and end.")
    ] = False,
) -> None:
    """TokenScope: look into a code model while it decodes."""


def run(arguments: list[str]) -> int:
    """Run one command. Returns the exit code."""
    as_json = "--json" in arguments
    if COMPLETING in os.environ:  # a shell asks what could stand at the cursor
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    command: Any = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="tokenscope", standalone_mode=False)
    except TokenScopeError as error:
        return fail(error.code, str(error), error.exit_code, as_json)
    except typer.TyperException as error:
        return fail("usage", error.format_message(), error.exit_code, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # whoever read our output has gone (`| head`): no error; keep Python from flushing to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0
