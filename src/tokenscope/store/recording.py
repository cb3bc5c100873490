"""A branch that is being written: its row says ``running``, its tokens are in a journal."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tokenscope.store.journal import Journal
from tokenscope.store.rows import NodeRow
from tokenscope.trace import Origin, Part, Trace
from tokenscope.trace.join import join

log = logging.getLogger(__name__)
SLOW = 2.0  # seconds that a write may take before the log says so


class Recording:
    """Append parts as they come, then finish once. Used by one thread; others may look.

    A slow disk makes ``append`` wait and nothing else; :attr:`waiting` says since when.
    """

    def __init__(
        self, node: NodeRow, journal: Journal, shared: Trace | None, origin: Origin, language: str,
        finish: Callable[[Recording, Trace | None, str], NodeRow],
    ) -> None:  # fmt: skip
        self.node = node
        self._journal = journal
        self._finish = finish
        self._origin, self._language = origin, language
        self._folded = join(shared, (), origin=origin, language=language)
        self._parts: list[Part] = []
        self._guard = threading.Lock()
        self._since: float | None = None

    def append(self, part: Part) -> bool:
        """Keep one part: from now on the death of the process does not lose it.

        True when ``committed`` has grown (see there). Raises StoreError; what was appended before
        is kept, this part is not, and the run must end.
        """
        with self._timed():
            grown = self._journal.append(part)
        with self._guard:
            self._parts.append(part)
        return grown

    @property
    def committed(self) -> int:
        """How many tokens of the branch survive a power cut."""
        return self._journal.committed

    @property
    def waiting(self) -> float:
        """Seconds that the disk has not answered for (0: it is not asked, or quick)."""
        since = self._since
        return time.monotonic() - since if since is not None else 0.0

    @property
    def shared(self) -> int:
        """How many tokens the branch has from its parent."""
        return self._journal.shared

    def trace(self) -> Trace:
        """What was appended so far; nothing is read back from the disk."""
        with self._guard:
            if self._parts:
                self._folded = join(
                    self._folded, self._parts, origin=self._origin, language=self._language
                )
                self._parts = []
            return self._folded

    def finish(self, trace: Trace | None, finish: str) -> NodeRow:
        """The run is over. ``trace`` None: take what was appended. Returns the final row.

        Raises StoreError when it cannot be written now: the branch then counts as interrupted,
        nothing of it is lost, and the store tries again with its next change.
        """
        with self._timed():
            try:
                self._journal.commit()
            finally:
                self._journal.close()
                row = self._finish(self, trace, finish)
        return row

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._since = start = time.monotonic()
        try:
            yield
        finally:
            self._since = None
            if (took := time.monotonic() - start) > SLOW:
                log.warning("the disk took %.1f s to keep part of branch %s", took, self.node.id)
