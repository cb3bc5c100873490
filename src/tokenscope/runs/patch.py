"""What faces call to patch one prompt's run with another's, and to trace causes through noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.backends.hf.sites import KINDS
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError
from tokenscope.explain.cells import Cost
from tokenscope.explain.heat import heat
from tokenscope.explain.patching import Direction, Patching, PatchMap, align
from tokenscope.explain.places import tokens_in
from tokenscope.explain.target import Target
from tokenscope.explain.tracing import DRAWS, NOISE, CausalTrace, Tracing
from tokenscope.runs.prompts import asked_at, favourite, meanings, shown, trace_of
from tokenscope.trace.drawn import Shown
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

Grid = np.ndarray[tuple[int, int], np.dtype[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class Patched(Shown):
    """A patch map with its words. ``effect(part)``: (layers, base tokens), heads (layers, heads).

    ``columns``: the base's tokens; ``token`` and ``contrast``: A and B.
    """

    map: PatchMap
    token: str
    contrast: str | None
    columns: tuple[str, ...]

    def effect(self, part: str) -> Grid:
        """The share of the difference that moved: 0 none, 1 all."""
        return self.map.effect(part)

    def to_pandas(self) -> pd.DataFrame:
        """One row per place: part, layer, position, token, head, value (nats), effect."""
        import pandas as pd

        return pd.DataFrame(list(self._rows()))

    def _rows(self) -> Any:
        for part, values in self.map.values.items():
            effect = self.map.effect(part)
            for layer, second in np.argwhere(np.isfinite(values)):
                head = part == "heads"
                yield {
                    "part": part, "layer": int(layer), "position": -1 if head else int(second),
                    "token": "" if head else self.columns[second],
                    "head": int(second) if head else -1,
                    "value": float(values[layer, second]), "effect": float(effect[layer, second]),
                }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """One plain document: grids of nats with null where there is no such place."""
        m = self.map
        return {
            "direction": m.direction, "clean": m.clean, "corrupt": m.corrupt,
            "token": self.token, "token_id": m.target.a, "contrast": self.contrast,
            "contrast_id": m.target.b, "columns": list(self.columns), "same": m.pair.same,
            "parts": {
                name: {"values": plain(v), "effect": plain(m.effect(name))}
                for name, v in m.values.items()
            },
            "cost": str(m.cost), "definitions": meanings(["patching", m.target.kind]),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return "".join(picture(self, part, self.effect(part)) for part in self.map.values)

    def __repr__(self) -> str:
        m = self.map
        return f"<Patched by {m.direction}: clean {m.clean:.3f}, corrupt {m.corrupt:.3f} nats>"


@dataclass(frozen=True, eq=False)
class Traced(Shown):
    """A causal trace with its words; as :class:`Patched`, with intervals over the draws."""

    map: CausalTrace
    token: str
    contrast: str | None
    columns: tuple[str, ...]

    def effect(self, part: str) -> Grid:
        """(layers, tokens): the mean share that one clean place restores."""
        return self.map.effect(part)[0]

    def to_pandas(self) -> pd.DataFrame:
        """One row per place: part, layer, position, token, effect, low, high, draws."""
        import pandas as pd

        rows = []
        for part in self.map.values:
            effect, low, high = self.map.effect(part)
            rows += [
                {"part": part, "layer": int(i), "position": int(t), "token": self.columns[t],
                 "effect": float(effect[i, t]), "low": float(low[i, t]),
                 "high": float(high[i, t]), "draws": len(self.map.corrupt)}
                for i, t in np.argwhere(np.isfinite(effect))
            ]  # fmt: skip
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """One plain document."""
        m = self.map
        parts = {}
        for name in m.values:
            effect, low, high = m.effect(name)
            parts[name] = {"effect": plain(effect), "low": plain(low), "high": plain(high)}
        return {
            "clean": m.clean, "corrupt": [float(x) for x in m.corrupt], "noise": m.noise,
            "sd": m.sd, "seed": m.seed, "subject": list(m.subject), "token": self.token,
            "token_id": m.target.a, "contrast": self.contrast, "contrast_id": m.target.b,
            "columns": list(self.columns), "parts": parts, "cost": str(m.cost),
            "definitions": meanings(["causal_tracing", m.target.kind]),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return "".join(picture(self, part, self.effect(part)) for part in self.map.values)


def picture(made: Patched | Traced, part: str, effect: Grid) -> str:
    """One part as a heat table, without the columns at which nothing was run."""
    rows = [f"layer {i}" for i in range(len(effect))]
    title = f"{part}: share of the difference moved, {made.token!r} against {made.contrast!r}"
    if part == "heads":
        return heat(title, rows, [f"head {h}" for h in range(effect.shape[1])], effect)
    used = [t for t in range(effect.shape[1]) if np.nan_to_num(effect[:, t]).any()]
    return heat(title, rows, [made.columns[t] for t in used], effect[:, used])


def plain(grid: Grid) -> list[list[float | None]]:
    """Rows as JSON takes them: null for NaN."""
    return [[float(v) if np.isfinite(v) else None for v in line] for line in grid]


class PatchJob:
    """Patching in pieces: checks when it is made; ``cost`` is known before ``run``."""

    def __init__(
        self, engine: Engine, clean: str | Trace, corrupt: str | Trace, at: int | None = None,
        contrast: str | int | None = None, token: str | int | None = None,
        parts: Sequence[str] = KINDS, noising: bool = False,
        aligned: str | Sequence[tuple[int, int]] | None = None, control: Control = QUIET,
    ) -> None:  # fmt: skip
        one, two = trace_of(engine, clean, "clean"), trace_of(engine, corrupt, "corrupt")
        asked = asked_at(engine, one, at, token, contrast)
        # counted from the end, so that both stop before the same choice
        cut = len(two) - (len(one) - asked.n)
        if not 1 <= cut <= len(two):
            raise InputError("corrupt", "is too short to have a token there")
        ids = [int(i) for i in two.ids[:cut]]
        target = asked.target
        if contrast is None:
            other = favourite(asked.internals, ids)
            target = Target(target.at, target.a, other if other != target.a else None)
        base, source = (asked.ids, ids) if noising else (ids, asked.ids)
        direction: Direction = "noising" if noising else "denoising"
        self.engine, self.target = engine, target
        self._patching = Patching(
            asked.internals, align(base, source, aligned), target, direction, parts, control
        )
        self.cost: Cost = self._patching.cost
        tokens = (one if noising else two).tokens
        self.columns = tuple(tokens[i].text for i in range(len(base)))

    def run(self) -> Patched:
        """The map. Raises InputError where the prompts differ too little, Cancelled."""
        b = self.target.b
        words = shown(self.engine, self.target.a), None if b is None else shown(self.engine, b)
        return Patched(self._patching.run(), *words, self.columns)


def patch_map(engine: Engine, clean: str | Trace, corrupt: str | Trace, **options: Any) -> Patched:
    """Which place in the model carries the difference between two prompts.

    ``at`` (None: the token after the prompt), ``token`` A (None: the token there, else the clean
    prompt's favourite), ``contrast`` B (None: the corrupt prompt's favourite; where both favour
    A, ln p(A) is explained). ``parts``: residual, attention, mlp, heads. ``noising``: patch the
    clean run with the corrupt one. ``aligned``: None (equal lengths), "ends", or pairs of
    positions (base, source); the base is the corrupt prompt, with ``noising`` the clean one.
    Raises InputError, AbilityError, CapacityError.
    """
    return PatchJob(engine, clean, corrupt, **options).run()


class TraceJob:
    """Causal tracing in pieces; as :class:`PatchJob`."""

    def __init__(
        self, engine: Engine, prompt: str | Trace, subject: str | Sequence[int],
        at: int | None = None, contrast: str | int | None = None,
        token: str | int | None = None, parts: Sequence[str] = ("residual", "attention", "mlp"),
        draws: int = DRAWS, noise: float = NOISE, window: int = 1, seed: int = 0,
        control: Control = QUIET,
    ) -> None:  # fmt: skip
        trace = trace_of(engine, prompt)
        asked = asked_at(engine, trace, at, token, contrast)
        self.engine, self.target = engine, asked.target
        places = _subject(trace, subject, asked.n)
        self._tracing = Tracing(
            asked.internals, asked.ids, asked.target, places, parts, draws, noise, window, seed,
            control,
        )  # fmt: skip
        self.cost: Cost = self._tracing.cost
        self.columns = tuple(trace.tokens[i].text for i in range(asked.n))

    def run(self) -> Traced:
        """The map with intervals. Raises InputError where noise changes too little, Cancelled."""
        b = self.target.b
        words = shown(self.engine, self.target.a), None if b is None else shown(self.engine, b)
        return Traced(self._tracing.run(), *words, self.columns)


def causal_trace(
    engine: Engine, prompt: str | Trace, subject: str | Sequence[int], **options: Any
) -> Traced:
    """Where the model keeps what it knows of ``subject``: a text of the prompt (its first
    occurrence), or token positions. Options: ``at``, ``token``, ``contrast``, ``parts``,
    ``draws``, ``noise`` (standard deviations of the embeddings), ``window``, ``seed``."""
    return TraceJob(engine, prompt, subject, **options).run()


def _subject(trace: Trace, given: str | Sequence[int], n: int) -> list[int]:
    if not isinstance(given, str):
        return [int(i) for i in given]
    raw = given.encode("utf-8", "replace")
    start = trace.tokens.data.find(raw) if raw else -1
    if start < 0:
        raise InputError("subject", "does not stand in the prompt")
    return [int(t) for t in tokens_in(trace.tokens, start, start + len(raw)) if t < n]
