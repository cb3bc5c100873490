"""``tokenscope compare``: two saved traces side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenscope.cli.options import JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say, table
from tokenscope.cli.texts import saved

if TYPE_CHECKING:
    from tokenscope.runs.compare import Compared

SHOWN = 40  # rows of a terminal's table


@opens_a_model
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A saved trace.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    column: Annotated[
        list[str] | None, typer.Option("--column", "-c", help="Shown of both (repeat).")
    ] = None,
    by: Annotated[str, typer.Option(help="Roll the columns up over this level instead.")] = "",
    exact: Annotated[
        bool, typer.Option("--exact", help="Read both again by the model that made them.")
    ] = False,
    *,
    wanted: Wanted,
    as_json: JsonOption = False,
) -> int:
    """Where two traces part and meet again, what differs, how far their distributions lie apart."""
    from tokenscope.runs.compare import compare as run

    one, two = saved(a, "A"), saved(b, "B")
    model = wanted.load() if exact else None
    found = run(one, two, (model, model))
    columns = column or ["surprisal", "entropy"]
    rolled = {c: found.rollup(c, by) for c in columns} if by else {}
    if as_json:
        plain = found.to_json(columns)
        if by:
            plain["rollup"] = {c: _rows(f) for c, f in rolled.items()}
        document(plain)
        return 0
    if by:
        for frame in rolled.values():
            table(frame)
    else:
        differs = [r for r in found.rows(columns) if not r["same"]]
        import pandas as pd

        table(pd.DataFrame(differs).head(SHOWN) if differs else pd.DataFrame({"same": [True]}))
    _say(found)
    return 0


def _say(found: Compared) -> None:
    plain = found.to_json(())
    if plain["fork"] is None:
        say("both say the same")
    else:
        joint = plain["joint_logprob"]["differs"]
        say(
            f"they part at token {plain['fork']['a']} (byte {plain['fork']['byte']}); what differs "
            f"weighs {joint['a']:.3f} and {joint['b']:.3f} nats of logprob"
        )
        meets = found.meets
        say(f"they meet again at token {meets.a[0]}" if meets else "they do not meet again")
    for where, name in (("at_fork", "where they part"), ("after_fork", "after the first choice")):
        apart = plain[where]
        if apart is not None:
            least = "" if apart["exact"] else ">= "
            kl = "" if apart["kl"] is None else f", KL {least}{apart['kl']:.4f} nats"
            say(f"{name}: total variation {apart['tv_low']:.4f} .. {apart['tv_high']:.4f}{kl}")


def _rows(frame: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows
