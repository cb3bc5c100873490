"""The same explanation over many prompts, with intervals: nothing rests on one."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError, TokenScopeError
from tokenscope.explain.many import Figures, Mean, faithful, means, paired, parts, places
from tokenscope.explain.methods import METHODS
from tokenscope.explain.target import Asked, Target
from tokenscope.pictures.paper import framed
from tokenscope.runs.explain import internals_of
from tokenscope.runs.prompts import asked_at, meanings, runner_up, shown, trace_of
from tokenscope.trace.display import visible
from tokenscope.trace.drawn import Shown
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = ("occlusion", "input_x_gradient")
MOST_PROMPTS = 10_000
FIELDS = ("prompt", "at", "token", "contrast", "group")
Given = str | Trace | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Many(Shown):
    """Means over prompts. ``prompts``: one row each (A, B, f); ``failures``: which, and why.

    ``means``: every figure with its interval and its own n; a failed prompt counts nowhere.
    """

    prompts: tuple[dict[str, Any], ...]
    failures: tuple[dict[str, Any], ...]
    means: tuple[Mean, ...]
    figures: tuple[tuple[int, str, Figures], ...]
    methods: tuple[str, ...]

    @property
    def n(self) -> int:
        """Prompts that were explained by at least one method."""
        return len(self.prompts)

    def to_pandas(self, group: str | None = None) -> pd.DataFrame:
        """One row per figure: method, what, key, mean, low, high, n. ``group``: only prompts of
        that group."""
        import pandas as pd

        made = self.means
        if group is not None:
            mine = {p["index"] for p in self.prompts if p["group"] == group}
            if not mine:
                raise InputError("group", "no prompt has that group")
            made = tuple(means((m, f) for i, m, f in self.figures if i in mine))
        return pd.DataFrame([_plain(m) for m in made])

    def records(self) -> pd.DataFrame:
        """One row per prompt, method and figure: what the means are made of."""
        import pandas as pd

        return pd.DataFrame([
            {"prompt": i, "method": m, "what": what, "key": key, "value": value}
            for i, m, f in self.figures for (what, key), value in f.items()
        ])  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """One plain document."""
        names = ["many", *self.methods, "deletion", "insertion", "direct_logit"]
        return {
            "n": self.n, "failed": len(self.failures), "methods": list(self.methods),
            "prompts": [dict(p) for p in self.prompts],
            "failures": [dict(f) for f in self.failures],
            "means": [{k: _number(v) for k, v in _plain(m).items()} for m in self.means],
            "definitions": meanings(names),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        head = f"<p>{self.n} prompts, {len(self.failures)} failures; 95 % bootstrap intervals</p>"
        frame = self.to_pandas()
        largest = frame[frame["what"] == "part"]["mean"].abs().nlargest(10).index
        kept = frame[(frame["what"] != "part") | frame.index.isin(largest)]
        failed = "".join(
            f"<li>{f['index']}: {html.escape(visible(f['reason']))}</li>" for f in self.failures
        )
        table = str(kept.map(_shown).to_html(index=False, border=0))
        return framed(head + table + (f"<ul>{failed}</ul>" if failed else ""))

    def __repr__(self) -> str:
        return f"<Many: {self.n} prompts, {len(self.failures)} failures>"


def explain_many(
    engine: Engine, prompts: Sequence[Given], *, methods: Sequence[str] = DEFAULT,
    against: str = "runner_up", with_parts: bool = True, control: Control = QUIET,
) -> Many:  # fmt: skip
    """Explain the token after each prompt by each method, and average with intervals.

    A prompt: a text, a trace, or a mapping with ``prompt`` and perhaps ``at``, ``token``,
    ``contrast`` and ``group``. Without ``contrast`` A is explained against the model's second
    choice, or by itself with ``against="nothing"``. What fails is listed with its reason and
    leaves the others alone. Raises InputError for bad options or where every prompt fails.
    """
    if against not in ("runner_up", "nothing"):
        raise InputError("against", "must be runner_up or nothing")
    if not methods:
        raise InputError("methods", "at least one is needed")
    for name in methods:
        METHODS.get(name)
    if isinstance(prompts, str) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise InputError("prompts", f"must be a list of 1 to {MOST_PROMPTS} prompts")
    internals_of(engine)
    told: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    figures: list[tuple[int, str, Figures]] = []
    for i, given in enumerate(prompts):
        control.step(i, len(prompts), "prompts")
        try:
            trace, asked, group = _asked(engine, given, against)
            told.append(_told(engine, i, asked, group))
        except TokenScopeError as error:
            failures.append({"index": i, "method": "", "reason": str(error)})
            continue
        if with_parts:
            _try(failures, figures, i, "", lambda a=asked: parts(a))
        for name in methods:
            _try(
                failures, figures, i, name,
                lambda a=asked, t=trace, m=name: _by(a, t, m, control),
            )  # fmt: skip
    control.step(len(prompts), len(prompts), "prompts")
    if not told:
        raise InputError("prompts", f"every one of {len(prompts)} failed: {failures[0]['reason']}")
    per: dict[int, dict[str, Figures]] = {}
    for i, name, made in figures:
        per.setdefault(i, {})[name] = made
    every = [*means((m, f) for _, m, f in figures), *paired(list(per.values()), list(methods))]
    return Many(tuple(told), tuple(failures), tuple(every), tuple(figures), tuple(methods))


def read_prompts(text: str) -> list[Given]:
    """Prompts of a file: JSON lines (a string or a mapping each), else one prompt per line.

    Raises InputError that names the line.
    """
    made: list[Given] = []
    lines = [(n, x) for n, x in enumerate(text.splitlines(), 1) if x.strip()]
    as_json = bool(lines) and lines[0][1].lstrip()[0] in '{"'
    for n, line in lines:
        if not as_json:
            made.append(line)
            continue
        try:
            one = json.loads(line)
        except ValueError:
            raise InputError("prompts", f"line {n} is no JSON") from None
        if not isinstance(one, str | dict):
            raise InputError("prompts", f"line {n} is neither a string nor an object")
        made.append(one)
    return made


def _asked(engine: Engine, given: Given, against: str) -> tuple[Trace, Asked, str]:
    fields: Mapping[str, Any] = given if isinstance(given, Mapping) else {"prompt": given}
    unknown = [k for k in fields if k not in FIELDS]
    if unknown or "prompt" not in fields:
        raise InputError("prompt", f"takes the fields {', '.join(FIELDS)}")
    trace = trace_of(engine, fields["prompt"])
    asked = asked_at(engine, trace, fields.get("at"), fields.get("token"), fields.get("contrast"))
    if fields.get("contrast") is None and against == "runner_up":
        b = runner_up(asked.internals, asked.ids, asked.target.a)
        asked = Asked(asked.internals, asked.ids, Target(asked.target.at, asked.target.a, b))
    return trace, asked, str(fields.get("group", ""))


def _told(engine: Engine, index: int, asked: Asked, group: str) -> dict[str, Any]:
    b = asked.target.b
    return {
        "index": index, "tokens": asked.n, "token": shown(engine, asked.target.a),
        "contrast": None if b is None else shown(engine, b), "value": asked.value(),
        "group": group,
    }  # fmt: skip


def _by(asked: Asked, trace: Trace, method: str, control: Control) -> Figures:
    made = METHODS.get(method).run(asked, control)
    if not made.converged:
        raise InputError("method", f"{method} did not converge: {made.note}")
    values = made.values.astype(np.float32)
    return faithful(asked, values, control) | places(trace, values)


def _try(
    failures: list[dict[str, Any]], figures: list[tuple[int, str, Figures]], index: int,
    method: str, make: Any,
) -> None:  # fmt: skip
    try:
        figures.append((index, method, make()))
    except TokenScopeError as error:
        failures.append({"index": index, "method": method, "reason": str(error)})


def _plain(m: Mean) -> dict[str, Any]:
    return {"method": m.method, "what": m.what, "key": m.key, "mean": m.interval.mean,
            "low": m.interval.low, "high": m.interval.high, "n": m.interval.n}  # fmt: skip


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _shown(value: object) -> object:
    return visible(value) if isinstance(value, str) else value
