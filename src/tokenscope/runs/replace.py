"""What faces call to replace parts by a reference, and to follow paths from head to head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explain.cells import Cost
from tokenscope.explain.heat import heat
from tokenscope.explain.paths import Paths
from tokenscope.explain.references import Effect, How, Per, Reference, Replacing, gather
from tokenscope.explain.target import Asked
from tokenscope.pictures.paper import framed
from tokenscope.runs.prompts import asked_at, meanings, shown, texts_of, trace_of
from tokenscope.trace.drawn import Shown
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Kind = Literal["ablation", "paths"]


@dataclass(frozen=True, eq=False)
class Replaced(Shown):
    """Rows of effects in nats, largest first; ``value`` is f(x); ``how`` says what stood in."""

    kind: Kind
    rows: tuple[Row, ...]
    value: float
    how: str
    token: str
    contrast: str | None
    note: str
    cost: str
    shape: tuple[int, int]

    def to_pandas(self) -> pd.DataFrame:
        """One row per part, or per edge."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def to_json(self) -> dict[str, Any]:
        """One plain document."""
        name = "path_effect" if self.kind == "paths" else "reference_ablation"
        target = "target_logprob" if self.contrast is None else "target_contrast"
        return {
            "value": self.value, "how": self.how, "token": self.token, "contrast": self.contrast,
            "note": self.note, "cost": self.cost, "rows": [dict(r) for r in self.rows],
            "definitions": meanings([name, target]),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        if self.kind == "paths":
            return framed(str(self.to_pandas().to_html(index=False, border=0)))
        grid = np.full(self.shape, np.nan)
        for row in self.rows:
            grid[row["layer"], row["head"] if row["part"] == "heads" else -1] = row["effect"]
        columns = [f"head {h}" for h in range(self.shape[1] - 1)] + ["MLP"]
        rows = [f"layer {i}" for i in range(self.shape[0])]
        return heat(self.note, rows, columns, grid, float(np.nanmax(np.abs(grid))) or 1.0)


class ReplaceJob:
    """Every head and MLP replaced, one at a time. Checks when it is made; knows its ``cost``."""

    def __init__(
        self, engine: Engine, prompt: str | Trace, at: int | None = None,
        contrast: str | int | None = None, token: str | int | None = None, how: How | None = None,
        reference: Sequence[str] = (), per: Per = "overall", draws: int = 8, seed: int = 0,
        control: Control = QUIET,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.asked = asked_at(engine, trace_of(engine, prompt), at, token, contrast)
        self.how, made = referred(engine, self.asked, how, reference, per, control)
        self.note = note_of(self.how, made)
        self._job = Replacing(self.asked, self.how, made, draws=draws, seed=seed, control=control)
        self.cost: Cost = self._job.cost

    def run(self) -> Replaced:
        """Raises Cancelled."""
        effects = sorted(self._job.run(), key=lambda e: -abs(e.effect))
        anatomy = self.asked.internals.anatomy
        return Replaced(
            "ablation", tuple(map(_row, effects)), self.asked.value(), self.how,
            *_words(self.engine, self.asked), self.note, str(self.cost),
            (len(anatomy.layers), anatomy.heads + 1),
        )  # fmt: skip


def ablate_map(engine: Engine, prompt: str | Trace, **options: Any) -> Replaced:
    """The effect of every head and MLP, one at a time.

    ``at`` (None: the token after the prompt), ``token``, ``contrast``; ``how``: zero, own_mean
    (over this text's own positions), mean or resample over ``reference`` texts (mean where texts
    are given, else own_mean), ``per``: overall or position; ``draws`` of resample. Raises
    InputError, AbilityError, CapacityError.
    """
    return ReplaceJob(engine, prompt, **options).run()


def path_effects(
    engine: Engine, prompt: str | Trace, at: int | None = None,
    contrast: str | int | None = None, token: str | int | None = None, how: How | None = None,
    reference: Sequence[str] = (), per: Per = "overall",
    heads: Sequence[tuple[int, int]] | None = None, top: int = 6, control: Control = QUIET,
) -> Replaced:  # fmt: skip
    """What the largest few heads tell one another directly; options as for ``ablate_map``.

    ``heads``: (layer, head) pairs in place of the ``top``.
    """
    asked = asked_at(engine, trace_of(engine, prompt), at, token, contrast)
    chosen, made = referred(engine, asked, how, reference, per, control)
    found = Paths(asked, chosen, made, heads, top, control).run()
    rows = tuple(
        {"sender": f"{e.sender[0]}.{e.sender[1]}", "receiver": f"{e.receiver[0]}.{e.receiver[1]}",
         "effect": e.effect, "moved": e.moved}
        for e in found.edges
    )  # fmt: skip
    return Replaced(
        "paths", rows, found.value, chosen, *_words(engine, asked), note_of(chosen, made),
        f"{len(rows)} edges", (0, 0),
    )  # fmt: skip


def referred(
    engine: Engine, asked: Asked, how: How | None, texts: Sequence[str], per: Per,
    control: Control,
) -> tuple[How, Reference | None]:  # fmt: skip
    """What replaces, and the reference that it needs. Raises InputError."""
    chosen: How = how if how is not None else ("mean" if texts else "own_mean")
    if chosen in ("zero", "own_mean"):
        if texts:
            raise InputError("reference", f"is unused by how={chosen}")
        return chosen, None
    ids = texts_of(engine, texts, engine.info.context or 1024)
    return chosen, gather(asked.internals, ids, chosen, per, control=control)


def note_of(how: How, reference: Reference | None) -> str:
    """One sentence on what stood in the place of a part."""
    if reference is None:
        what = {"zero": "zero", "own_mean": "its mean over this text's own positions"}[how]
        return f"Each part is replaced by {what}."
    over = f"{reference.texts} reference texts ({reference.tokens:,} tokens)"
    if how == "mean":
        where = "at the same position" if reference.per == "position" else "over all positions"
        return f"Each part is replaced by its mean {where} of {over}."
    return f"Each part is replaced by what it does on one of {over}, drawn at random."


def _row(e: Effect) -> Row:
    low, high = (e.interval.low, e.interval.high) if e.interval is not None else (None, None)
    return {"part": e.kind, "layer": e.layer, "head": e.head, "effect": e.effect, "low": low,
            "high": high}  # fmt: skip


def _words(engine: Engine, asked: Asked) -> tuple[str, str | None]:
    b = asked.target.b
    return shown(engine, asked.target.a), None if b is None else shown(engine, b)
