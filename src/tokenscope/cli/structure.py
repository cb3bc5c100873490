"""``tokenscope structure``: a column of a file, or of all files of a folder, by its syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say, table, writable
from tokenscope.errors import InputError, UnknownName


@opens_a_model
def structure(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A source file, or a folder.")],
    by: Annotated[
        str,
        typer.Option(
            "--by", help="kind, category, expression, statement, line, block, function, class "
            "or file.",
        ),
    ] = "statement",
    column: Annotated[str, typer.Option("--column", "-c", help="What is rolled up.")] = "entropy",
    group: Annotated[
        str, typer.Option("--group", help="region: each by itself; kind: all of a kind together.")
    ] = "region",
    language: Annotated[
        str, typer.Option("--language", help="Default: by the file's name, else its content.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder: write the rows to this Parquet.")
    ] = None,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Score code with the model and add up a column over its syntax tree."""
    from tokenscope.cli.pace import Pace
    from tokenscope.code.aliases import chosen
    from tokenscope.control import Control
    from tokenscope.runs.structure_files import roll_up_files, source_files
    from tokenscope.trace.columns import COLUMNS
    from tokenscope.trace.regions import LEVELS

    if language:
        language = chosen(language)
    if by not in LEVELS:
        raise UnknownName("--by", by, LEVELS)
    if group not in ("region", "kind"):
        raise UnknownName("--group", group, ("region", "kind"))
    import tokenscope.metrics  # noqa: F401 (registers the columns that a score has)

    COLUMNS.get(column)
    if out is not None:
        writable(out, "--out")
    folder = path.is_dir()
    if folder and out is None:
        raise InputError("--out", "a folder needs --out FILE.parquet")
    files = source_files(path)
    engine = wanted.load()
    made = roll_up_files(
        engine, files, path if folder else path.parent, by=by, column=column, group=group,
        language=language, control=Control(Pace().told), say=say,
    )  # fmt: skip
    if out is not None:
        try:
            made.frame.to_parquet(out, index=False)
        except OSError as error:
            raise InputError("--out", f"cannot be written: {error.strerror}") from error
    if as_json:
        document(
            {
                "path": path.name, "by": by, "column": column, "group": group,
                "files": made.files, "skipped": made.skipped,
                "out": None if out is None else str(out),
                "rows": [] if folder else made.frame.to_dict("records"),
            }
        )  # fmt: skip
    elif folder:
        say(f"{len(made.frame)} rows of {len(made.files)} files")
    else:
        shown = made.frame.drop(columns=["path", "language", "region"])
        table(shown)
    return 2 if made.skipped else 0
