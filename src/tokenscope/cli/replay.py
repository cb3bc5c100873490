"""``tokenscope replay``: a saved trace or an audit, made again from what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say
from tokenscope.cli.texts import saved


@opens_a_model
def replay(
    trace: Annotated[
        Path,
        typer.Argument(help="A trace that was saved, or the folder of an audit.", metavar="TRACE"),
    ],
    every: Annotated[int, typer.Option(min=1, help="Of an audit: every n-th case only.")] = 1,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Run a trace, or every sample of an audit, again. Exit 0: the same; 1: it differs; 2: there
    is none; 3: another model."""
    from tokenscope.cli.pace import Pace
    from tokenscope.control import Control
    from tokenscope.runs.replay import replay as run

    if trace.is_dir():
        return _audit(trace, every, wanted, as_json)
    held = saved(trace)
    engine = replace(wanted, dtype=wanted.dtype or held.origin.dtype or None).load()
    found = run(engine, held, Control(Pace().told))
    if as_json:
        document(found.to_json())
    else:
        worst = max(found.columns.values(), default=0.0)
        print(f"{len(held)} tokens: {'the same' if found.same else 'differs'}")
        say(f"largest difference of a column: {worst:.1e}")
        for reason in found.reasons:
            say(reason)
    return 0 if found.same else 1


def _audit(folder: Path, every: int, wanted: Wanted, as_json: bool) -> int:
    from tokenscope.cli.pace import Pace
    from tokenscope.control import Control
    from tokenscope.evidence.records import read_records
    from tokenscope.runs.replay_audit import replay_audit

    dtype = read_records(folder)[0].get("dtype")
    engine = replace(wanted, dtype=wanted.dtype or dtype or None).load()
    found = replay_audit(engine, folder, every, Control(Pace().told))
    if as_json:
        document(found.to_json())
    else:
        said = "the same" if found.same else f"{found.total} differences"
        print(f"{found.cases} cases, {found.samples} samples: {said}")
        for case, sample, what in found.differing[:20]:
            say(f"{case[:80]} #{sample}: {what}")
        for reason in found.reasons:
            say(reason)
    return 0 if found.same else 1
