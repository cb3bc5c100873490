"""The Merkle tree over the records of a day (RFC 9162, section 2.1).

Its root stands for all of them: one record can be shown to belong to a day, by a path of about
log2(n) hashes, without showing the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf(line: bytes) -> bytes:
    """SHA-256(0x00 || line)."""
    return hashlib.sha256(b"\x00" + line).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(n: int) -> int:
    """The largest power of two that is smaller than n."""
    return 1 << (n - 1).bit_length() - 1


def root(leaves: Sequence[bytes]) -> bytes:
    """The hash of the tree; of no leaves SHA-256 of nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return _node(root(leaves[:k]), root(leaves[k:]))


def path(leaves: Sequence[bytes], at: int) -> list[bytes]:
    """The hashes beside the way from leaf ``at`` up to the root, lowest first."""
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if at < k:
        return [*path(leaves[:k], at), root(leaves[k:])]
    return [*path(leaves[k:], at - k), root(leaves[:k])]


def climbs(found: bytes, at: int, count: int, beside: Sequence[bytes], top: bytes) -> bool:
    """Whether leaf hash ``found``, at place ``at`` of ``count``, leads to root ``top``."""
    if not 0 <= at < count:
        return False
    turns: list[bool] = []  # True: the other one stands on the right; highest first
    n, place = count, at
    while n > 1:
        k = _split(n)
        turns.append(place < k)
        n, place = (k, place) if place < k else (n - k, place - k)
    if len(turns) != len(beside):
        return False
    for right, other in zip(reversed(turns), beside, strict=True):
        found = _node(found, other) if right else _node(other, found)
    return found == top
