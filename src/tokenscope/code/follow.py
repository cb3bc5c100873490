"""The structure of a text that is still growing: tree-sitter edits, and only the end walked anew.

A follower never spends more than its share of the time. Each update measures what it cost and the
next one waits until that is ``share`` of the time that has passed, so that a slow grammar or a long
text makes the structure follow in larger strides and never slows the decoding down.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from tree_sitter import Tree

from tokenscope.code.language import Language
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.parse import parse
from tokenscope.code.tree import Flat, tree_of
from tokenscope.trace.regions import Regions

_NOWHERE = (0, 0)  # points are not used: all positions here are bytes


class Follower:
    """Append bytes, ask for regions. ``share``: part of the elapsed time that may be spent.

    ``spent`` is the number of seconds used so far.
    """

    def __init__(
        self, language: str, share: float = 0.02, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._name = language
        self._language: Language | None = LANGUAGES.get(language) if language in LANGUAGES else None
        self._share, self._clock = share, clock
        self._data = bytearray()
        self._parsed = 0
        self._tree: Tree | None = None
        self._flat = Flat()
        self._regions = parse(b"", language)
        self._began = self._ready = clock()
        self.spent = 0.0

    def append(self, piece: bytes) -> None:
        """Take more bytes. Costs nothing: they are parsed when regions are asked for."""
        self._data += piece

    @property
    def regions(self) -> Regions:
        """The regions as of the last update; they may cover less than what was appended."""
        return self._regions

    def poll(self) -> Regions | None:
        """New regions when there are new bytes and time to spend on them, else None."""
        if self._parsed == len(self._data) or self._clock() < self._ready:
            return None
        return self.update()

    def update(self) -> Regions:
        """The regions of everything appended so far, whatever it costs."""
        begin = self._clock()
        if self._parsed < len(self._data):
            self._parse()
        end = self._clock()
        self.spent += end - begin
        self._ready = max(end, self._began + self.spent / self._share)
        return self._regions

    def _parse(self) -> None:
        data = bytes(self._data)
        old, self._parsed = self._parsed, len(data)
        if self._language is None:
            self._regions = parse(data, self._name)
            return
        before = self._tree
        if before is not None:
            before.edit(old, old, len(data), _NOWHERE, _NOWHERE, _NOWHERE)
        tree = tree_of(data, self._language, before)
        keep = 0
        if tree is not None and before is not None:
            first = min((r.start_byte for r in before.changed_ranges(tree)), default=old)
            keep = self._kept(tree, min(first, old))
        self._flat.truncate(keep)
        if tree is None or not self._flat.extend(tree, self._language, keep):
            self._tree, self._flat = None, Flat()
            self._regions = Regions.file_only(len(data), self._name, "unparsed", error=True)
            return
        self._tree = tree
        self._regions = self._flat.regions(self._language, data)

    def _kept(self, tree: Tree, byte: int) -> int:
        """How many nodes at the front stand as they are, after their open ancestors are stretched.

        Going down from the root to the first byte that may have changed, all that lies to the left
        of the way is unchanged; the nodes on the way keep their place as long as they are the same.
        """
        flat = self._flat
        edge = self._settled(byte)
        cursor = tree.walk()
        while True:
            node, index = cursor.node, cursor.descendant_index
            assert node is not None
            same = (
                index < len(flat.symbol)
                and flat.symbol[index] == node.kind_id
                and flat.start[index] == node.start_byte
                and flat.depth[index] == cursor.depth
                and node.start_byte < edge
                and index not in flat.missing
            )
            if not same:
                return index
            flat.end[index] = node.end_byte
            if cursor.goto_first_child_for_byte(edge) is None:
                return index

    def _settled(self, byte: int) -> int:
        """A byte up to which nodes are final: before the last leaf and before any repair."""
        flat = self._flat
        if not flat.symbol:
            return 0
        repairs = (flat.start[i] for i in flat.missing)
        return max(0, min(byte - 1, flat.start[-1], *repairs, byte))
