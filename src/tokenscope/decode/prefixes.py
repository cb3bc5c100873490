"""States of prefixes that may be needed again, under a byte budget; least recently used goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.protocol import Backend, stepper
from tokenscope.trace.record import Trace

BUDGET = 1 << 30


@dataclass(slots=True, eq=False)
class Kept:
    """A state, the ids that it has seen, and the trace that was measured on the way (if any)."""

    ids: NDArray[np.int32]
    state: Any
    nbytes: int
    trace: Trace | None


class Prefixes:
    """Finds the longest kept state that a sequence can start from."""

    def __init__(self, backend: Backend, budget: int = BUDGET) -> None:
        self._backend = backend
        self._lock = Lock()
        self._kept: list[Kept] = []  # oldest use first
        self.budget = budget

    @property
    def nbytes(self) -> int:
        """Bytes of all kept states."""
        with self._lock:
            return sum(k.nbytes for k in self._kept)

    def put(self, state: Any, trace: Trace | None = None) -> None:
        """Keep a state. The caller must not extend it afterwards (fork it instead)."""
        ids = np.asarray(state.ids, dtype=np.int32)
        size = int(state.nbytes)
        if not len(ids) or self._backend.abilities.fork == "none" or size > self.budget:
            return
        with self._lock:
            if self._backend.abilities.fork == "crop":  # a longer one serves in place of a prefix
                self._kept = [
                    k for k in self._kept
                    if not (len(k.ids) <= len(ids) and _common(k.ids, ids) == len(k.ids))
                ]  # fmt: skip
            self._kept.append(Kept(ids, state, size, trace))
            while sum(k.nbytes for k in self._kept) > self.budget:
                self._kept.pop(0)

    def take(self, ids: Sequence[int] | NDArray[np.int32], limit: int) -> Any:
        """A state of the caller's own that has seen at most ``limit`` of ``ids``; maybe empty."""
        wanted = np.asarray(ids, dtype=np.int32)[: max(limit, 0)]
        crop = self._backend.abilities.fork == "crop"
        with self._lock:
            best: tuple[int, Kept] | None = None
            for kept in self._kept:
                n = _common(kept.ids, wanted)
                if (crop or n == len(kept.ids)) and n > (best[0] if best else 0):
                    best = (n, kept)
            if best is None:
                return stepper(self._backend).start()
            n, kept = best
            self._kept.remove(kept)
            self._kept.append(kept)
            return stepper(self._backend).fork(kept.state, n)

    def measured(self, ids: Sequence[int] | NDArray[np.int32], k: int) -> Trace | None:
        """The longest measured start of ``ids`` with exactly ``k`` alternatives, or None."""
        wanted = np.asarray(ids, dtype=np.int32)
        best: Trace | None = None
        with self._lock:
            for kept in self._kept:
                if kept.trace is None or (kept.trace.alternatives is None) != (k == 0):
                    continue
                if kept.trace.alternatives is not None and kept.trace.alternatives.k != k:
                    continue
                n = _common(kept.trace.ids, wanted)
                if n > (len(best) if best is not None else 1):
                    best = kept.trace.cut(n)
        return best

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


def _common(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    n = min(len(a), len(b))
    unequal = np.nonzero(a[:n] != b[:n])[0]
    return int(unequal[0]) if len(unequal) else n
