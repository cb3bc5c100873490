"""How long a piece of a prompt may be: others wait for it, and a cancel takes, 0.25 s at most."""

from __future__ import annotations

MOST_MS = 250.0
FIRST, MOST = 64, 4096  # tokens


class Pace:
    """Tokens that a model reads in ``MOST_MS``, learnt from the chunks that it has read.

    The first chunk is small and each at most four times the last, so that a slow model is found
    out at the price of one short wait.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST

    def chunk(self) -> int:
        """Tokens to read next."""
        return self._next

    def saw(self, tokens: int, ms: float) -> None:
        """A chunk of ``tokens`` took ``ms``. Short ones tell nothing: they are mostly overhead."""
        if tokens * 2 < min(self._next, FIRST) or ms <= 0.0:
            return
        fits = int(0.8 * MOST_MS * tokens / ms)  # later tokens cost a little more than these
        self._next = max(1, min(fits, 4 * max(tokens, FIRST // 4), MOST))
