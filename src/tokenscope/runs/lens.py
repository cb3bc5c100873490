"""What faces call for the lens at every position, and to fit and keep a tuned lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explain.heat import heat
from tokenscope.explain.lens_grid import LensGrid, lens_grid
from tokenscope.explain.tuned_lens import STEPS, WINDOW, Fitting, TunedLens
from tokenscope.runs.explain import internals_of
from tokenscope.runs.kept_lens import kept_lens, lens_path
from tokenscope.runs.patch import plain
from tokenscope.runs.prompts import ids_of, meanings, shown, start_ids, trace_of
from tokenscope.trace.drawn import Shown
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

# tokens of text that one fit reads at most
MOST_TOKENS = 20_000


@dataclass(frozen=True, eq=False)
class Lenses(Shown):
    """The logit lens over a text, and the tuned lens where one is kept for the model.

    Rows of a grid are the streams before each layer and the model's own output; column t is
    about token t given the tokens before it.
    """

    trace: Trace
    logit: LensGrid
    tuned: LensGrid | None
    words: dict[int, str]

    def to_pandas(self) -> pd.DataFrame:
        """One row per layer and token: lens, layer, index, token, top, p_top, logprob, rank, kl."""
        import pandas as pd

        rows = []
        for name, grid in self._grids():
            for i in range(len(grid.top)):
                rows += [
                    {"lens": name, "layer": i, "index": t, "token": self.trace.tokens[t].text,
                     "top": self.words[int(grid.top[i, t])], "p_top": float(grid.p_top[i, t]),
                     "logprob": float(grid.logprob[i, t]), "rank": int(grid.rank[i, t]),
                     "kl": float(grid.kl[i, t])}
                    for t in range(1, grid.top.shape[1])
                ]  # fmt: skip
        return pd.DataFrame(rows)

    def _grids(self) -> list[tuple[str, LensGrid]]:
        return [("logit", self.logit), *([("tuned", self.tuned)] if self.tuned is not None else [])]

    def to_json(self) -> dict[str, Any]:
        """One plain document; ``top`` holds texts."""
        return {
            "tokens": [t.text for t in self.trace.tokens],
            "lenses": {
                name: {
                    "top": [[self.words.get(int(i), "") for i in row] for row in grid.top],
                    "p_top": plain(grid.p_top), "logprob": plain(grid.logprob),
                    "rank": grid.rank.tolist(), "kl": plain(grid.kl),
                }
                for name, grid in self._grids()
            },
            "definitions": meanings(["lens_grid", "logit_lens", "tuned_lens"]),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        name, grid = self._grids()[-1]
        n = grid.top.shape[1]
        rows = [f"before layer {i}" for i in range(len(grid.top) - 1)] + ["output"]
        title = f"p of the actual token, {name} lens"
        p = np.exp(grid.logprob[:, 1:])
        return heat(title, rows, [self.trace.tokens[t].text for t in range(1, n)], p)


def lenses(
    engine: Engine, text: str | Trace, tuned: bool = True, folder: Path | None = None,
    control: Control = QUIET,
) -> Lenses:  # fmt: skip
    """The lens at every layer and position. ``tuned``: beside it the tuned lens, where one is
    kept. Raises InputError, AbilityError, CapacityError."""
    trace, internals = trace_of(engine, text, "text"), internals_of(engine)
    ids = trace.ids.tolist()
    logit = lens_grid(internals, ids, None, control)
    made = kept_lens(engine, internals, folder) if tuned else None
    grid = lens_grid(internals, ids, made.translate, control) if made is not None else None
    used = {int(i) for g in (logit, grid) if g is not None for i in np.unique(g.top) if i >= 0}
    return Lenses(trace, logit, grid, {i: shown(engine, i) for i in used})


def fit_lens(
    engine: Engine, text: str | Sequence[str], steps: int = STEPS, seed: int = 0,
    folder: Path | None = None, source: str = "", control: Control = QUIET, keep: bool = True,
    **options: Any,
) -> TunedLens:  # fmt: skip
    """Fit a tuned lens to a text and keep it in the data folder (``folder``: another one).

    It is kept now and then while it is fitted, so that a job that is stopped leaves what it has.
    A fifth of the text is held out; the KL there, of both lenses, stands in the result. Raises
    InputError for a text that is too short, CapacityError, Cancelled.
    """
    if not engine.info.model_digest:
        raise InputError("model", "has no digest to keep a lens under")
    texts = [text] if isinstance(text, str) else list(text)
    ids: list[list[int]] = []
    room = MOST_TOKENS
    for one in texts:
        made = ids_of(engine, one)[:room]
        room -= len(made)
        ids.append(made)
    path = lens_path(engine, folder)
    context = engine.info.context or WINDOW
    fit = Fitting(
        internals_of(engine), ids, engine.info.model_digest, start_ids(engine), steps=steps,
        seed=seed, window=min(WINDOW, context), source=source[:200], control=control,
        keep=(lambda part: part.save(path)) if keep else None, **options,
    ).run()  # fmt: skip
    if keep:
        fit.save(path)
    return fit
