"""Tokens as the text that a client gets: whole characters, nothing after a stop string, and what
may yet become one is held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Word:
    """One token: its bytes, its logprob (NaN: not known), the most likely ones at its place.

    ``at``: the character of the text at which it begins; a token inside one counts as at its start.
    """

    piece: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()
    at: int = 0


@dataclass(slots=True)
class Sent:
    """Text that may go out, with the tokens that made it."""

    text: str = ""
    words: list[Word] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.words)


class Text:
    """The text of one choice, as it grows."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [s.encode() for s in stops if s]
        self._data = bytearray()  # what is held back
        self._words: list[Word] = []
        self.stopped = False
        self.begin = 0  # characters before the first one
        self.sent = 0  # characters that went out

    def add(self, word: Word) -> Sent:
        """One token more; gives what may go out now."""
        if self.stopped:
            return Sent()
        self._data += word.piece
        self._words.append(word)
        found = [at for at in (self._data.find(s) for s in self._stops) if at >= 0]
        if found:
            self.stopped = True
            return self._out(min(found), last=True)
        return self._out(len(self._data) - self._held(), last=False)

    def rest(self) -> Sent:
        """There are no more tokens."""
        return Sent() if self.stopped else self._out(len(self._data), last=True)

    def _held(self) -> int:
        """Bytes at the end that may be the beginning of a stop string."""
        most = 0
        for stop in self._stops:
            for n in range(min(len(stop) - 1, len(self._data)), most, -1):
                if self._data.endswith(stop[:n]):
                    most = n
                    break
        return most

    def _out(self, upto: int, last: bool) -> Sent:
        """Whole tokens up to byte ``upto`` that end between characters; ``last``: all of it."""
        end = at = count = 0
        for n, word in enumerate(self._words, 1):
            at += len(word.piece)
            if at > upto:
                break
            if last or whole(self._data[:at]):
                end, count = at, n
        words, self._words = self._words[:count], self._words[count:]
        end = upto if last else end
        text = bytes(self._data[:end]).decode("utf-8", "replace")
        del self._data[:end]
        before = b""
        for n, word in enumerate(words):
            at = self.begin + self.sent + len(before.decode("utf-8", "ignore"))
            words[n] = replace(word, at=at)
            before += word.piece
        self.sent += len(text)
        return Sent(text, words)


def whole(data: bytes | bytearray) -> bool:
    """Whether no character is cut at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        need = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4
        return back >= need
    return True
