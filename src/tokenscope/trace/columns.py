"""Named columns of numbers over the tokens of a trace, and the table of what each means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError
from tokenscope.registry import Registry

F32 = NDArray[np.float32]
Quality = Literal["exact", "bound", "estimate"]


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """What a column means: enough for any face to draw it without new code.

    ``lo`` and ``hi`` are the ends of the colour scale (None: open, take it from the data);
    ``better`` says which end is the confident one. ``formula`` and ``source`` are for the reader.
    """

    name: str
    title: str
    unit: str
    formula: str
    source: str
    lo: float | None = 0.0
    hi: float | None = None
    better: Literal["low", "high", "none"] = "none"
    scale: Literal["linear", "log"] = "linear"


COLUMNS: Registry[ColumnSpec] = Registry("column")


def describe(name: str) -> ColumnSpec:
    """The spec of a column; for a column that somebody added by hand, a plain one."""
    if name in COLUMNS:
        return COLUMNS.get(name)
    return ColumnSpec(name, name, "", "", "", lo=None)


@dataclass(frozen=True, eq=False)
class Column:
    """float32 (T,) with NaN where undefined, and how far the numbers may be trusted.

    ``exact``: from the full distribution. ``bound``: one-sided. ``estimate``: sampled or modelled.
    """

    name: str
    values: F32
    quality: Quality = "exact"
    spec: ColumnSpec = field(default_factory=lambda: ColumnSpec("", "", "", "", ""))

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 1:
            raise InputError(f"column {self.name}", f"must have one axis, got {values.shape}")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        if not self.spec.name:
            object.__setattr__(self, "spec", describe(self.name))
