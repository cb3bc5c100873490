"""``tokenscope likelihood``: which lines a human would change; ``learn-edits``: learn it first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say
from tokenscope.cli.texts import given_file
from tokenscope.errors import InputError


@opens_a_model
def learn_edits(
    files: Annotated[
        int, typer.Option(min=0, help="Files of the standard library to make mutants of.")
    ] = 60,
    pairs: Annotated[
        Path | None, typer.Option(help="JSON lines with before, after and file: your own edits.")
    ] = None,
    git: Annotated[
        Path | None, typer.Option(help="A git repository: what its last commits changed.")
    ] = None,
    commits: Annotated[int, typer.Option(min=1, help="How many of them.")] = 200,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to keep it. Default: for this model.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Learn how likely a human would change a line, and measure on held-out files how good that
    is. It is kept even where it is not better than surprisal, and says so."""
    from tokenscope.cli.pace import Pace
    from tokenscope.control import Control
    from tokenscope.evidence import mutants
    from tokenscope.runs.likelihood import learn_edits as learn
    from tokenscope.runs.likelihood import place

    examples = list(mutants.mutants(mutants.library(files, seed), seed))
    made_of: dict[str, object] = {"mutants of files": files, "seed": seed}
    if pairs is not None:
        if not pairs.is_file():
            raise InputError("--pairs", "there is no such file")
        held = list(mutants.pairs(pairs))
        made_of["pairs"] = len(held)
        examples += held
    if git is not None:
        held = list(mutants.history(git, commits))
        made_of["functions of commits"] = len(held)
        examples += held
    engine = wanted.load()
    found = learn(engine, examples, made_of, Control(Pace().told))
    path = out or place(engine)
    found.save(path)
    if as_json:
        document({**found.to_json(), "out": str(path)})
    else:
        print(found.verdict)
        for r in found.rivals:
            say(f"{r.name}: AUROC {r.auroc:.3f}, AP {r.ap:.3f}")
        say(f"kept in {path}")
    return 0


@opens_a_model
def likelihood(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Code, or - for stdin.")],
    learnt: Annotated[
        Path | None, typer.Option(help="What `learn-edits` wrote. Default: that of this model.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Lines to show.")] = 10,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """The probability, for every line, that a human would change it."""
    from tokenscope.evidence.learnt import read_learnt
    from tokenscope.runs.likelihood import likelihood as judge

    held = read_learnt(learnt) if learnt is not None else None
    text = given_file(file)
    engine = wanted.load()
    found = judge(engine, engine.score(text), held)
    if as_json:
        document(found.to_json())
        return 0
    lines = text.splitlines()
    for n, p in found.lines[:most]:
        print(f"{p:6.3f}  {n + 1:5d}  {lines[n][:100]}")
    say(found.learnt.verdict)
    return 0
