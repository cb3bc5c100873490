"""The records of what runs on the server: one for every run, whatever happens in between.

A record that the disk refuses is kept in memory and written with the next one; what a crash left
without a record is found at the next start; the payloads of what was purged are erased.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenscope.errors import InputError, StoreError
from tokenscope.records import RecordLog, somebody, traced
from tokenscope.store import Store

log = logging.getLogger(__name__)
MOST_PENDING = 10_000


class Books:
    """Writes the log in ``folder``. Never raises: what cannot be written now waits."""

    def __init__(self, folder: Path, key: Path | None = None) -> None:
        self.log = RecordLog(folder, key)
        self._who = f"{somebody()} (server)"
        self._pending: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MOST_PENDING)
        self._guard = threading.Lock()

    @property
    def pending(self) -> int:
        """Records that wait for the disk."""
        return len(self._pending)

    def keep(self, kind: str, payload: Mapping[str, Any]) -> None:
        """One record more."""
        with self._guard:
            self._pending.append((kind, dict(payload)))
            while self._pending:
                try:
                    self.log.append(*self._pending[0], self._who)
                except (StoreError, InputError) as error:
                    log.error("%d record(s) wait: %s", len(self._pending), error)
                    return
                self._pending.popleft()

    def settle(self, store: Store) -> None:
        """Record runs that have no record, and erase what the store has purged."""
        known = store.known()
        try:
            held = self._nodes()
            recorded = {node for _, node in held}
            begun = self.log.begun
            gone = [seq for seq, node in held if node not in known]
            if gone:
                self.log.erase(gone, "purged", self._who)
        except (StoreError, InputError) as error:
            log.error("the records cannot be settled: %s", error)
            return
        for node, status in known.items():
            if begun and status in ("done", "interrupted") and node not in recorded:
                self._recover(store, node)

    def _recover(self, store: Store, node: str) -> None:
        try:
            row, trace = store.node(node), store.trace(node)
        except StoreError:  # deleted, or damaged: said elsewhere
            return
        told = {"job": "generate", "node": node, "session": row.session, **traced(trace)}
        self.keep("recovered", told)

    def _nodes(self) -> list[tuple[int, str]]:
        """(number, branch) of every record that tells of one and is not erased."""
        out = []
        for record in self.log.records():
            if record.kind in ("run", "recovered"):
                payload = self.log.payload(record.seq)
                if payload is not None and payload.get("node"):
                    out.append((record.seq, str(payload["node"])))
        return out
