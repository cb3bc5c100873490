"""A scripted model whose tokens are bytes, words and pieces of characters: a vocabulary that cuts
one text in many ways, so that what rules text has something to be fooled by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.trace.tokens import Tokens

WORDS = (
    "os", ".system", "system(", "import", " import", "import o", "s\n", "eval", "ev", "al(", "(x)",
    "def ", " f(", "):\n", "    ", "return", " 1", "x", " = ", "\n", '"a"', '{"', '":', " {", "}",
    "[1", ", ", "2]", "ä", "日本", "語", "🙂", "é", "# ", "ok", "k\n", "done", " do", "ne", "none",
)  # fmt: skip
SPLIT = [part for c in "日🙂ä" for data in [c.encode()] for part in (data[:1], data[1:], data[:2])]
PIECES = [bytes([b]) for b in range(256)] + [w.encode() for w in WORDS] + SPLIT
END = len(PIECES)


def logits(ids: Sequence[int]) -> np.ndarray:
    """Random, by the whole prefix; words are as likely as the 256 bytes together."""
    seed = hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).digest()[:8]
    random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    out = random.normal(0.0, 2.0, END + 1).astype(np.float32)
    out[:256] -= 2.0
    return out


class Worded(ScriptedBackend):
    """Its end token is the last id. ``encode`` takes the longest piece at each place."""

    def __init__(self) -> None:
        super().__init__(logits, attention=False)  # type: ignore[arg-type]
        self.stop_ids = frozenset({END})
        self.info = replace(self.info, vocab=END + 1, tokenizer_digest="worded")

    def encode(self, text: str, bos: bool = True) -> Tokens:
        data, ids = text.encode(), []
        while data:
            best = max((i for i, p in enumerate(PIECES) if data.startswith(p)),
                       key=lambda i: len(PIECES[i]))  # fmt: skip
            ids.append(best)
            data = data[len(PIECES[best]) :]
        return Tokens.of(ids, [PIECES[i] for i in ids])

    def piece(self, token_id: int) -> bytes:
        return b"" if token_id == END else PIECES[token_id]

    def label(self, token_id: int) -> str | None:
        return "<end>" if token_id == END else None


def tokenisations(text: bytes, most: int = 400) -> list[list[int]]:
    """Ways to cut ``text`` into tokens of the vocabulary; all of them, if there are no more."""
    found: list[list[int]] = []

    def go(rest: bytes, ids: list[int]) -> None:
        if len(found) >= most:
            return
        if not rest:
            found.append(ids)
        for i, p in enumerate(PIECES):
            if rest.startswith(p):
                go(rest[len(p) :], [*ids, i])

    go(text, [])
    return found
