"""Sessions, trees and traces on the disk."""

from tokenscope.store.database import default_folder
from tokenscope.store.recording import Recording
from tokenscope.store.rows import NodeRow, SessionRow
from tokenscope.store.store import RETENTION, Purged, Store
from tokenscope.trace import Part

__all__ = [
    "RETENTION",
    "NodeRow",
    "Part",
    "Purged",
    "Recording",
    "SessionRow",
    "Store",
    "default_folder",
]
