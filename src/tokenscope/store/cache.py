"""Traces used last, kept in memory under a byte budget."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tokenscope.trace import Trace

MOST = 128  # large attention keeps its file open, and a process may have 1,024


class TraceCache:
    """The traces used last, under a byte budget."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: OrderedDict[str, tuple[Trace, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, node: str) -> Trace | None:
        """The trace, if it is here."""
        with self._lock:
            if node not in self._held:
                return None
            self._held.move_to_end(node)
            return self._held[node][0]

    def put(self, node: str, trace: Trace) -> None:
        """Keep it, and let go of those not used for the longest time."""
        with self._lock:
            self._held[node] = (trace, size(trace))
            self._held.move_to_end(node)
            while len(self._held) > 1 and (
                len(self._held) > MOST or sum(n for _, n in self._held.values()) > self._budget
            ):
                self._held.popitem(last=False)

    def drop(self, node: str) -> None:
        """Forget it."""
        with self._lock:
            self._held.pop(node, None)


def size(trace: Trace) -> int:
    """Bytes of the arrays of a trace that are in memory."""
    total = sum(c.values.nbytes for c in trace.columns.values()) + len(trace.tokens.data)
    if trace.alternatives is not None:
        total += trace.alternatives.ids.nbytes * 2
    return total + (trace.attention.held if trace.attention is not None else 0)
