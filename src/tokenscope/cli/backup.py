"""``tokenscope backup|restore|purge``: sessions as one file, back again, and away for good."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import DataOption, JsonOption
from tokenscope.cli.output import document, say


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write (a tar).")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> int:
    """Keep all sessions as one file. A server may go on writing meanwhile."""
    from tokenscope.store import backup as store_backup
    from tokenscope.store import default_folder

    made = store_backup.backup(data if data is not None else default_folder(), file)
    if as_json:
        document({"file": str(file), **asdict(made)})
    say(f"{file}: {made.sessions} session(s), {made.branches} branch(es), {_size(made.bytes)}")
    return 0


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> int:
    """Unpack a backup into a data folder that is new or empty, after checking all of it."""
    from tokenscope.store import backup as store_backup
    from tokenscope.store import default_folder

    folder = data if data is not None else default_folder()
    made = store_backup.restore(file, folder)
    if as_json:
        document({"data": str(folder), **asdict(made)})
    say(f"{folder}: {made.sessions} session(s), {made.branches} branch(es)")
    return 0


def purge(
    older_than: Annotated[int, typer.Option(min=0, help="Days since they were deleted.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> int:
    """Remove for good what was deleted that long ago, and say what it frees."""
    from tokenscope.records import FOLDER
    from tokenscope.server.books import Books
    from tokenscope.store import Store, default_folder

    store = Store(data if data is not None else default_folder(), retention=None)
    try:
        gone = store.purge(timedelta(days=older_than), dry_run)
        if not dry_run:
            Books(store.path / FOLDER).settle(store)
    finally:
        store.close()
    if as_json:
        document({"dry_run": dry_run, **asdict(gone)})
    word = "would free" if dry_run else "freed"
    say(f"{word} {_size(gone.bytes)}: {gone.sessions} session(s), {gone.branches} branch(es)")
    return 0


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
