"""A Trace: one decoded sequence with everything that was measured on it. Immutable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tokenscope.errors import InputError, UnknownName
from tokenscope.registry import Registry
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import F32, Column, Quality
from tokenscope.trace.drawn import Drawn
from tokenscope.trace.origin import Origin
from tokenscope.trace.tokens import Tokens

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from tokenscope.trace.findings import Finding
    from tokenscope.trace.regions import Regions

Finish = Literal["", "length", "eos", "stop", "cancelled", "scored", "stuck", "error"]

# What upper floors can do with a trace (parse it, roll it up, draw it) registers here by name,
# so that `trace.regions` works while this file imports nothing from above.
VIEWS: Registry[Callable[..., Any]] = Registry("view")


@dataclass(frozen=True, eq=False)
class Trace(Drawn):
    """One sequence of T tokens.

    Index rule: ``column(name)[t]`` describes token ``t`` given the tokens before it; token 0 has
    NaN. ``n_prompt`` is the index of the first generated token. ``language`` is a hint for the
    syntax tree ("" = detect).
    """

    tokens: Tokens
    n_prompt: int
    columns: Mapping[str, Column] = field(default_factory=dict)
    alternatives: Alternatives | None = None
    attention: Attention | None = None
    origin: Origin = field(default_factory=Origin)
    finish: Finish = ""
    language: str = ""

    pictures: ClassVar[tuple[str, ...]] = ("tokens", "attention", "heads", "icicle")

    def __post_init__(self) -> None:
        if not 0 <= self.n_prompt <= len(self.tokens):
            raise InputError("n_prompt", f"must lie in 0..{len(self.tokens)}")
        for column in self.columns.values():
            if len(column.values) != len(self.tokens):
                raise InputError(
                    f"column {column.name}",
                    f"has {len(column.values)} values for {len(self.tokens)} tokens",
                )
        if self.alternatives is not None and len(self.alternatives.ids) != len(self.tokens):
            raise InputError("alternatives", f"{len(self.alternatives.ids)} rows")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def ids(self) -> NDArray[np.int32]:
        """int32 (T,) token ids."""
        return self.tokens.ids

    @property
    def text(self) -> str:
        """The whole text, prompt and continuation."""
        return self.tokens.text

    @property
    def generated(self) -> str:
        """The text of the generated part."""
        return self.tokens.data[int(self.tokens.offsets[self.n_prompt]) :].decode(
            "utf-8", "replace"
        )

    def column(self, name: str) -> F32:
        """float32 (T,), NaN where undefined. Raises UnknownName, which lists the columns."""
        return self.column_of(name).values

    def column_of(self, name: str) -> Column:
        """The column with its spec and quality. Raises UnknownName."""
        try:
            return self.columns[name]
        except KeyError:
            raise UnknownName("column", name, self.columns) from None

    def with_column(self, name: str, values: F32, quality: Quality = "exact") -> Trace:
        """A new trace that has one column more (or another one of that name)."""
        return replace(self, columns={**self.columns, name: Column(name, values, quality)})

    def cut(self, end: int) -> Trace:
        """The first ``end`` tokens with all that was measured on them."""
        end = max(0, min(end, len(self)))
        return replace(
            self,
            tokens=self.tokens.slice(0, end),
            n_prompt=min(self.n_prompt, end),
            columns={
                n: Column(n, c.values[:end], c.quality, c.spec) for n, c in self.columns.items()
            },
            alternatives=self.alternatives.slice(0, end) if self.alternatives else None,
            attention=self.attention.slice(end) if self.attention else None,
        )

    def summary(self) -> dict[str, float]:
        """Figures of the generated part (of everything, when nothing was generated)."""
        from tokenscope.trace.summary import summarise

        return summarise(self)

    # --- views of upper floors, by name -------------------------------------------------------
    def view(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a registered view on this trace. Raises UnknownName."""
        return VIEWS.get(name)(self, *args, **options)

    @property
    def regions(self) -> Regions:
        """The syntax regions of the text (see ``tokenscope.code``)."""
        regions: Regions = self.view("regions")
        return regions

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks find in the text, tied to tokens (see ``tokenscope.evidence``)."""
        found: tuple[Finding, ...] = self.view("findings")
        return found

    @property
    def structure(self) -> Any:
        """The tokens over the syntax tree (see ``tokenscope.code.align.Alignment``)."""
        return self.view("structure")

    def rollup(self, column: str, by: str = "statement", **options: Any) -> pd.DataFrame:
        """A frame of one row per region: the aggregates of ``column`` at level ``by``."""
        frame: pd.DataFrame = self.view("rollup", column, by, **options)
        return frame

    # --- faces (registered by their own modules, so that this one knows none of them) -----------
    def to_pandas(self) -> pd.DataFrame:
        """One row per token: index, id, text, start, end, generated, special, all columns."""
        frame: pd.DataFrame = self.view("pandas")
        return frame

    def to_arrow(self) -> pa.Table:
        """The same as an Arrow table, with the alternatives, and the origin as its metadata."""
        table: pa.Table = self.view("arrow")
        return table

    def to_parquet(self, path: str | Path) -> Path:
        """Write :meth:`to_arrow` as a Parquet file. Raises OSError."""
        import pyarrow.parquet as parquet

        parquet.write_table(self.to_arrow(), path)
        return Path(path)

    def to_polars(self) -> pl.DataFrame:
        """The same as a polars frame. Raises MissingError where polars is not installed."""
        frame: pl.DataFrame = self.view("polars")
        return frame

    def to_json(self) -> str:
        """The whole trace as one JSON document (attention left out; ``save`` keeps it)."""
        document: str = self.view("json")
        return document

    def to_bytes(self) -> bytes:
        """What ``save`` writes, in memory. Read it with ``Trace.from_bytes``."""
        data: bytes = self.view("bytes")
        return data

    @staticmethod
    def from_bytes(data: bytes) -> Trace:
        """Read what ``to_bytes`` made. Raises InputError."""
        trace: Trace = VIEWS.get("from_bytes")(data)
        return trace

    def save(self, path: str | Path) -> Path:
        """Write one file of arrays and JSON (never a pickle). Read it with ``ts.read``.

        Raises StoreError (disk full, read-only, no such folder); what was there is then kept.
        """
        target: Path = self.view("save", path)
        return target


def trace_of(
    ids: Sequence[int], pieces: Sequence[bytes], n_prompt: int, **columns: Sequence[float]
) -> Trace:
    """A small trace from plain lists, for tests and examples."""
    return Trace(
        Tokens.of(ids, pieces),
        n_prompt,
        {n: Column(n, np.asarray(v, dtype=np.float32)) for n, v in columns.items()},
    )
