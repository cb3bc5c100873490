"""Turns documents into rows of token ids; half of the documents with a middle to fill in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

END, PREFIX, SUFFIX, MIDDLE = 0, 1, 2, 3
SMALLEST_PIECE = 48  # tokens of room below which no infilling piece is begun

Ids = NDArray[np.uint16]


class TokenStore:
    """All documents as one array of ids with the place where each document begins."""

    def __init__(self, ids: Ids, starts: NDArray[np.int64]) -> None:
        self.ids, self.starts = ids, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.ids[self.starts[index] : self.starts[index + 1]]

    @classmethod
    def encode(cls, tokenizer: Tokenizer, texts: Sequence[str]) -> TokenStore:
        """Tokenises every text."""
        found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        parts = [np.array(e.ids, np.uint16) for e in found]
        starts = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
        return cls(np.concatenate(parts), starts)

    def save(self, path: Path) -> None:
        """Writes the store to an .npz file."""
        np.savez(path, ids=self.ids, starts=self.starts)

    @classmethod
    def load(cls, path: Path) -> TokenStore:
        """Reads what `save` wrote."""
        with np.load(path) as data:
            return cls(data["ids"], data["starts"])


def cut_middle(text: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """(prefix, middle, suffix): some whole lines, or any run of characters."""
    if rng.random() < 0.5 and text.count("\n") >= 3:
        ends = [i + 1 for i, c in enumerate(text) if c == "\n"]
        first = int(rng.integers(0, len(ends) - 1))
        last = min(len(ends) - 1, first + int(rng.integers(1, 9)))
        start, end = ends[first], ends[last]
        if rng.random() < 0.5:  # begin behind the indentation, as a cursor would stand
            start += len(text[start:end]) - len(text[start:end].lstrip(" "))
            end -= 1
        end = max(start, end)
        return text[:start], text[start:end], text[end:]
    start = int(rng.integers(0, len(text)))
    end = min(len(text), start + int(rng.integers(1, max(2, min(600, len(text) // 3)))))
    return text[:start], text[start:end], text[end:]


def infill_ids(tokenizer: Tokenizer, prefix: str, middle: str, suffix: str) -> list[int]:
    """Prefix-suffix-middle order; each part is tokenised alone, as at inference."""
    parts = (prefix, suffix, middle)
    p, s, m = (tokenizer.encode(part, add_special_tokens=False).ids for part in parts)
    return [PREFIX, *p, SUFFIX, *s, MIDDLE, *m, END]


@dataclass(slots=True)
class Lane:
    """A reader within one document."""

    document: int
    infill: bool
    at: int = 0


class Rows:
    """An endless, resumable stream of rows of ids; documents are reshuffled every epoch.

    Neighbouring rows come from different lanes, so a batch mixes many documents, while each
    lane reads its document from start to end.
    """

    def __init__(self, store: TokenStore, tokenizer: Tokenizer, seed: int, lanes: int = 64) -> None:
        self.store, self.tokenizer, self.seed = store, tokenizer, seed
        self.rng = np.random.default_rng(seed)
        self.epoch, self.index, self.turn = 0, 0, 0
        self.order = self._shuffle()
        self.lanes = [self._open() for _ in range(lanes)]

    def _shuffle(self) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.store))

    def _open(self) -> Lane:
        if self.index == len(self.order):
            self.epoch, self.index = self.epoch + 1, 0
            self.order = self._shuffle()
        self.index += 1
        return Lane(int(self.order[self.index - 1]), bool(self.rng.random() < 0.5))

    def state(self) -> dict[str, Any]:
        """Where the stream stands; `restore` continues exactly there."""
        return {
            "rng": self.rng.bit_generator.state,
            "place": (self.epoch, self.index, self.turn),
            "lanes": [astuple(lane) for lane in self.lanes],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self.rng.bit_generator.state = state["rng"]
        self.epoch, self.index, self.turn = state["place"]
        self.lanes = [Lane(*values) for values in state["lanes"]]
        self.order = self._shuffle()

    def row(self, length: int) -> list[int]:
        """The next `length` ids, from the lane whose turn it is."""
        self.turn = (self.turn + 1) % len(self.lanes)
        out: list[int] = []
        while len(out) < length:
            out += self._piece(length - len(out))
        return out[:length]

    def _piece(self, room: int) -> list[int]:
        lane = self.lanes[self.turn]
        rest = self.store[lane.document][lane.at :]
        if lane.infill and room >= SMALLEST_PIECE:
            size = min(len(rest), int(room * self.rng.uniform(0.25, 1.0)) - 8)
        else:
            size = min(len(rest), room)
        ids: list[int] = rest[:size].tolist()
        ended = size == len(rest)
        if lane.infill and room >= SMALLEST_PIECE:
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
            if text and "\ufffd" not in text:
                ids = infill_ids(self.tokenizer, *cut_middle(text, self.rng))
        elif ended:
            ids.append(END)
        lane.at += size
        if ended:
            self.lanes[self.turn] = self._open()
        return ids

    def batch(self, rows: int, length: int) -> NDArray[np.int64]:
        """`rows` rows of `length` + 1 ids: inputs and, one further, targets."""
        return np.array([self.row(length + 1) for _ in range(rows)], np.int64)
