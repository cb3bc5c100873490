"""Which strings end where, byte by byte: one automaton for many strings (Aho & Corasick 1975)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenscope.decode.pieces import Table


@dataclass(frozen=True, eq=False)
class Automaton:
    """``table`` (states, 256); a state is the longest end of the text that begins a string.

    ``hits`` bool (states,): a string ends here. ``depth`` (states,): how many bytes of a string
    that longest end is. ``border`` (states,): the next shorter such end.
    """

    table: Table
    hits: NDArray[np.bool_]
    depth: NDArray[np.int32]
    border: NDArray[np.int32]

    def run(self, data: bytes, state: int = 0) -> int:
        """The state after ``data``."""
        for byte in data:
            state = int(self.table[state, byte])
        return state

    @property
    def reach(self) -> int:
        """No state depends on more than so many of the last bytes."""
        return int(self.depth.max(initial=0))


def automaton(strings: Sequence[bytes]) -> Automaton:
    """Of non-empty strings."""
    children: list[dict[int, int]] = [{}]
    depth, ends = [0], [False]
    for string in strings:
        at = 0
        for byte in string:
            if byte not in children[at]:
                children[at][byte] = len(children)
                children.append({})
                depth.append(depth[at] + 1)
                ends.append(False)
            at = children[at][byte]
        ends[at] = True
    n = len(children)
    table = np.zeros((n, 256), dtype=np.int32)
    border = np.zeros(n, dtype=np.int32)
    hits = np.array(ends)
    queue = deque([0])
    while queue:
        at = queue.popleft()
        if at:
            table[at] = table[border[at]]
            hits[at] |= hits[border[at]]
        for byte, child in children[at].items():
            border[child] = table[at, byte] if at else 0
            table[at, byte] = child
            queue.append(child)
    return Automaton(table, hits, np.array(depth, dtype=np.int32), border)
