"""``tokenscope replay``: a saved trace, made again from what its origin says."""

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
    trace: Annotated[Path, typer.Argument(help="A trace that was saved.", metavar="TRACE")],
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Run a trace again. Exit 0: the same; 1: it differs; 2: no trace; 3: another model."""
    from tokenscope.cli.pace import Pace
    from tokenscope.control import Control
    from tokenscope.runs.replay import replay as run

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
