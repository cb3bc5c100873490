"""Memories and measurements of prefixes that may be needed again, under a byte budget.

Everything is keyed by the inner edits that were in force while it was made: a steered memory
never reaches a clean run. Least recently used goes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.protocol import Backend, pools, stepper
from tokenscope.trace.record import Trace

BUDGET = 1 << 30
Ids = Sequence[int] | NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Kept:
    """A memory, the ids that it has read, and what was measured of their start (if anything)."""

    ids: NDArray[np.int32]
    state: Any
    trace: Trace | None
    key: Hashable


class Prefixes:
    """Finds the longest kept state that a sequence can start from."""

    def __init__(self, backend: Backend, budget: int = BUDGET) -> None:
        self._backend = backend
        self._lock = Lock()
        self._kept: list[Kept] = []  # oldest use first
        self.budget = budget

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of everything kept; a block that several states share counts once."""
        with self._lock:
            return self._size()

    def put(self, state: Any, trace: Trace | None = None, key: Hashable = ()) -> None:
        """Keep a state. The caller must not extend it afterwards (fork it instead).

        Where states can go back, one takes the place of those that it begins with, and keeps the
        longest measurement among them.
        """
        ids = np.asarray(state.ids, dtype=np.int32)
        if not len(ids) or self._backend.abilities.fork == "none":
            return
        if self._backend.abilities.pools:
            pools(self._backend).settle(state)
        if trace is not None:  # rows belong to a run: another that starts here records its own
            trace = replace(trace, attention=None)
        with self._lock:
            if self._backend.abilities.fork == "crop":  # a longer one serves in place of a prefix
                served = [
                    k for k in self._kept if k.key == key and _common(k.ids, ids) == len(k.ids)
                ]
                self._kept = [k for k in self._kept if k not in served]
                measured = [t for t in (trace, *(k.trace for k in served)) if t is not None]
                trace = max(measured, key=len, default=None)
            else:  # the same place again, by another branch
                self._kept = [
                    k for k in self._kept
                    if k.key != key or k.trace is not None or not np.array_equal(k.ids, ids)
                ]  # fmt: skip
            self._kept.append(Kept(ids, state, trace, key))
            while self._kept and self._size() > self.budget:
                self._kept.pop(0)

    def take(self, ids: Ids, limit: int, key: Hashable = (), clean: int = 0) -> Any:
        """A state of the caller's own that has seen at most ``limit`` of ``ids``; maybe empty.
        ``clean``: of so many of them a state without any edit will do as well."""
        wanted = np.asarray(ids, dtype=np.int32)[: max(limit, 0)]
        crop = self._backend.abilities.fork == "crop"
        with self._lock:
            best: tuple[int, Kept] | None = None
            for kept in self._kept:
                n = _common(kept.ids, wanted) if kept.key == key else 0
                if clean and kept.key == ():
                    n = _common(kept.ids, wanted[:clean])
                if (crop or n == len(kept.ids)) and n > (best[0] if best else 0):
                    best = (n, kept)
            if best is None:
                return stepper(self._backend).start()
            n, kept = best
            self._kept.remove(kept)
            self._kept.append(kept)
            return stepper(self._backend).fork(kept.state, n)

    def measured(self, ids: Ids, k: int, key: Hashable = ()) -> Trace | None:
        """The longest measured start of ``ids`` with exactly ``k`` alternatives, or None."""
        wanted = np.asarray(ids, dtype=np.int32)
        best: Trace | None = None
        with self._lock:
            for kept in self._kept:
                if kept.key != key or kept.trace is None:
                    continue
                held = kept.trace.alternatives
                if (held.k if held is not None else 0) != k:
                    continue
                n = _common(kept.trace.ids, wanted)
                if n > (len(best) if best is not None else 1):
                    best = kept.trace.cut(n)
        return best

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def _size(self) -> int:
        blocks: dict[Hashable, int] = {}
        for kept in self._kept:
            blocks |= kept.state.blocks
        return sum(blocks.values()) + sum(_measured_bytes(k.trace) for k in self._kept)


def _measured_bytes(trace: Trace | None) -> int:
    if trace is None:
        return 0
    held = trace.alternatives
    rows = held.ids.nbytes + held.logprobs.nbytes if held is not None else 0
    return rows + sum(c.values.nbytes for c in trace.columns.values())


def _common(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    n = min(len(a), len(b))
    unequal = np.nonzero(a[:n] != b[:n])[0]
    return int(unequal[0]) if len(unequal) else n
