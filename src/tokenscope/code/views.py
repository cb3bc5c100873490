"""The structure of a trace, as views that ``trace.regions`` and ``trace.rollup`` call by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tokenscope.code.aliases import chosen
from tokenscope.code.align import Alignment, align
from tokenscope.code.detect import detect
from tokenscope.code.parse import parse
from tokenscope.code.rollup import Rollup, rollup
from tokenscope.errors import UnknownName
from tokenscope.trace.record import VIEWS, Trace
from tokenscope.trace.regions import Regions

if TYPE_CHECKING:
    import pandas as pd

_ALIGNED: WeakKeyDictionary[Trace, dict[str, Alignment]] = WeakKeyDictionary()


def language_of(trace: Trace, language: str | None = None) -> str:
    """The language of a trace's text: asked for, else the trace's own hint, else the content.

    Raises UnknownName on an unknown ``language``; an unknown hint is passed over.
    """
    if language:
        return chosen(language)
    if trace.language:
        try:
            return chosen(trace.language)
        except UnknownName:
            pass
    return detect(trace.tokens.data)


def structure(trace: Trace, language: str | None = None) -> Alignment:
    """The trace's tokens over its syntax tree, kept as long as the trace lives."""
    name = language_of(trace, language)
    held = _ALIGNED.setdefault(trace, {})
    if name not in held:
        held[name] = align(trace.tokens, parse(trace.tokens.data, name))
    return held[name]


def regions_of(trace: Trace, language: str | None = None) -> Regions:
    """The syntax regions of the text."""
    return structure(trace, language).regions


def rolled(
    trace: Trace, column: str, by: str = "statement", *, language: str | None = None,
    part: str | None = None, **options: Any,
) -> Rollup:  # fmt: skip
    """A column rolled up over a level; ``part`` defaults to the generated tokens, and to all
    where none was generated. Raises UnknownName, InputError (see ``code.rollup``)."""
    if part is None:
        part = "generated" if trace.n_prompt < len(trace) else "all"
    return rollup(
        structure(trace, language), trace.column(column), by, n_prompt=trace.n_prompt,
        part=part, column=column, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def rollup_frame(trace: Trace, column: str, by: str = "statement", **options: Any) -> pd.DataFrame:
    """The same as a pandas frame, one row per group."""
    return rolled(trace, column, by, **options).frame()


VIEWS.add("structure", structure)
VIEWS.add("regions", regions_of)
VIEWS.add("rollup", rollup_frame)
