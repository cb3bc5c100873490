"""A branch that is being written: its row says ``running``, its tokens are in a journal."""

from __future__ import annotations

from collections.abc import Callable

from tokenscope.store.journal import Journal
from tokenscope.store.rows import NodeRow
from tokenscope.trace import Part, Trace


class Recording:
    """Append parts as they come, then finish once. Used by one thread."""

    def __init__(
        self, node: NodeRow, journal: Journal,
        finish: Callable[[NodeRow, Trace | None, str], NodeRow],
    ) -> None:  # fmt: skip
        self.node = node
        self._journal = journal
        self._finish = finish

    def append(self, part: Part) -> bool:
        """Keep one part: from now on the death of the process does not lose it.

        True when ``committed`` has grown (see there).
        """
        return self._journal.append(part)

    @property
    def committed(self) -> int:
        """How many tokens of the branch survive a power cut."""
        return self._journal.committed

    def finish(self, trace: Trace | None, finish: str) -> NodeRow:
        """The run is over. ``trace`` None: take what the journal holds. Returns the final row."""
        self._journal.commit()
        self._journal.close()
        return self._finish(self.node, trace, finish)
