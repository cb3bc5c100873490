"""``tokenscope invented``: the probability mass of names that do not exist, and a limit for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say
from tokenscope.cli.texts import given_file
from tokenscope.errors import InputError


@opens_a_model
def invented(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Python code, or - for stdin.")],
    allow: Annotated[
        list[str] | None, typer.Option(help="A module that exists (again for more).")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="A module of the project (again for more).")
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, max=10_000, help="Nodes of the trie that a place may take.")
    ] = 48,
    limit: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit 1 where a place may hold more than this mass."),
    ] = None,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """At every import and attribute of Python code: how probable a name is that does not exist."""
    from tokenscope.evidence.check import Options
    from tokenscope.evidence.checks.imports import packages
    from tokenscope.runs.invented import invented as judge

    text = given_file(file)
    for name in (*(allow or ()), *(project or ())):
        if not name.isidentifier():
            raise InputError("--allow, --project", "takes the name of a top-level module")
    known = packages() | frozenset(allow) if allow else None
    engine = wanted.load()
    options = Options(allow=known, project=frozenset(project or ()))
    found = judge(engine, engine.score(text, language="python"), options=options, most=most)
    found.sort(key=lambda one: -one.upper)
    over = [one for one in found if limit is not None and one.upper > limit]
    sure = sum(one.lower > limit for one in over) if limit is not None else 0
    if as_json:
        document({
            "places": [one.to_json() for one in found], "limit": limit,
            "over": sure, "undecided": len(over) - sure,
        })  # fmt: skip
    else:
        for one in found:
            names = ", ".join(f"{n} {m:.3g}" for n, m in one.names[:3])
            print(f"{one.upper:7.4f}  {one}{f'; most: {names}' if names else ''}")
        if limit is not None:
            say(f"{sure} of {len(found)} places over {limit:g}, {len(over) - sure} undecided")
    return 1 if over else 0
