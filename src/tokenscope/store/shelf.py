"""The files of the branches: each holds its own rows; what comes before is its parent's.

A branch that has ended is one trace file; one that runs, or was interrupted, is a journal.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenscope import disk
from tokenscope.errors import InputError, StoreDamaged, StoreGone
from tokenscope.store import journal
from tokenscope.trace import Part, Tokens, Trace
from tokenscope.trace.container import Source, pack, unpack
from tokenscope.trace.files import checked, rows, trace_of_part, whole
from tokenscope.trace.join import join, reaching

log = logging.getLogger(__name__)
SUFFIX = ".safetensors"
EMPTY = Trace(Tokens.of([], []), 0)


def arrays_file(traces: Path, node: str) -> Path:
    """Where the rows of a branch that has ended are."""
    return traces / f"{node}{SUFFIX}"


def journal_file(traces: Path, node: str) -> Path:
    """Where a running branch is written down."""
    return traces / f"{node}.journal"


def lineage(connection: sqlite3.Connection, node: str) -> list[str]:
    """A branch and what it grew from, up to the root."""
    found = connection.execute(
        """WITH RECURSIVE line (id, parent, depth) AS (
            SELECT id, parent, 0 FROM nodes WHERE id = ?
            UNION ALL SELECT n.id, n.parent, depth + 1 FROM nodes n JOIN line ON n.id = line.parent)
        SELECT id FROM line ORDER BY depth""",
        (node,),
    )
    return [row["id"] for row in found]


@dataclass(frozen=True)
class Own:
    """What the files of one branch hold: its rows from token ``start`` on.

    ``head`` is that of its trace file; None of a journal.
    """

    start: int
    file: Path
    head: dict[str, object] | None = None
    part: Part | None = None
    held: journal.Held | None = None

    def after(self, base: Trace | None) -> Trace:
        """The trace of the branch; ``base``: its parent's first ``start`` tokens."""
        if self.held is not None:
            return self.held.after(base)
        assert self.head is not None and self.part is not None
        return trace_of_part(self.head, self.part, self.file.name, base)


class Shelf:
    """The folder ``traces``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def own(self, node: str) -> Own:
        """The rows that a branch holds itself. Raises StoreError that names the file."""
        file = arrays_file(self.folder, node)
        try:
            if not file.exists():
                log_file = journal_file(self.folder, node)
                held = journal.read(log_file)
                # it may have ended meanwhile: its journal is gone then, its arrays are there
                if not file.exists():
                    return Own(held.shared, log_file, held=held)
            head, part = checked(*unpack(Source.open(file)), file.name)
            return Own(part.start, file, dict(head), part)
        except InputError as error:
            if not file.exists():
                raise StoreGone(file, str(error)) from error
            raise StoreDamaged(file, str(error)) from error

    def trace(self, node: str, line: Sequence[str], base: Trace | None = None) -> Trace:
        """The trace of a branch. ``line``: it and what it grew from, up to the root.

        ``base``: the trace of the last in ``line``'s parent, where that is known already.
        Raises StoreError.
        """
        made = base
        for own in reversed(self._needed(line)):
            try:
                if own.start and (made is None or len(made) < own.start):
                    log.error("%s: rows before token %d are lost", own.file.name, own.start)
                made = own.after(reaching(made, own.start) if own.start else None)
            except InputError as error:
                raise StoreDamaged(own.file, str(error)) from error
        return made if made is not None else EMPTY

    def _needed(self, line: Sequence[str]) -> list[Own]:
        """What a branch is put together from. A damaged file of an ancestor costs its rows only:
        what grew from it is still there."""
        needed: list[Own] = []
        for name in line:
            try:
                needed.append(self.own(name))
            except StoreDamaged as error:
                if not needed:
                    raise
                log.error("%s", error)
                continue
            if needed[-1].start == 0:
                break
        return needed

    def keep(self, node: str, trace: Trace, start: int) -> None:
        """Write the rows from token ``start`` on; there is either no file or the whole one."""
        disk.write_whole(arrays_file(self.folder, node), pack(*whole(trace, start)))

    def remove(self, node: str) -> int:
        """Take a branch's files away. Returns how many bytes they had."""
        size = self.size(node)
        for file in (arrays_file(self.folder, node), journal_file(self.folder, node)):
            disk.remove(file)
        return size

    def size(self, node: str) -> int:
        """Bytes of a branch's files."""
        files = (arrays_file(self.folder, node), journal_file(self.folder, node))
        return sum(f.stat().st_size for f in files if f.exists())


def regrown(base: Trace, trace: Trace, at: int) -> Trace:
    """What would be read back if ``trace`` were kept as rows from ``at`` on after ``base``."""
    made = join(
        base, [rows(trace, at)], n_prompt=trace.n_prompt, origin=trace.origin,
        language=trace.language,
    )  # fmt: skip
    return replace(made, finish=trace.finish)
