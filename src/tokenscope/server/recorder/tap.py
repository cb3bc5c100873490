"""A run that is listened to: whoever asked hears of a step once it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tokenscope.decode.step import Step
from tokenscope.runs.run import Run
from tokenscope.server.recorder.redact import Redacted, Redaction
from tokenscope.server.recorder.text import Word
from tokenscope.trace import Alternatives, Tokens, Trace


class Tap:
    """A Run for whoever writes it down; ``tell(step)`` comes after a step was written.

    ``patterns``: what is written lacks what they find; a line is then written once it is whole.
    """

    def __init__(
        self, run: Run, tell: Callable[[Step], None], patterns: Redaction | None = None
    ) -> None:
        self._run = run
        self._tell = tell
        self._hidden = None if patterns is None else Redacted(patterns, run.given)
        self.shared, self.n_prompt, self.total = run.shared, run.n_prompt, run.total
        self.cost = run.cost
        self.heard = run.shared  # what the client is told of it
        if self.shared is not None and self._hidden is not None:
            self.shared = self._hidden.trace(self.shared)

    def __iter__(self) -> Iterator[Step]:
        for step in self._run:
            if self._hidden is None:
                yield step
            else:
                yield from self._hidden.ready(step)
            self._tell(step)
        if self._hidden is not None:
            yield from self._hidden.ready(None)

    def cancel(self) -> None:
        """End within one step."""
        self._run.cancel()

    @property
    def finish(self) -> str:
        """Why it ended; "" while it runs."""
        return self._run.finish

    @property
    def trace(self) -> Trace:
        """Everything so far that may be written."""
        trace = self._run.trace
        return trace if self._hidden is None else self._hidden.trace(trace)


class Ears:
    """Steps from the run's thread to the coroutine that waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Step | BaseException | None] = asyncio.Queue()

    def tell(self, item: Step | BaseException | None) -> None:
        """From any thread. None: there is no more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def next(self) -> Step | None:
        """The next step, or None. Raises what ended the run."""
        item = await self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item


def words(part: Any, k: int) -> list[tuple[Word, str | None]]:
    """The tokens of a Step (or of a shared Trace) with their numbers, and the label of special
    ones. ``k``: candidates of each."""
    tokens: Tokens = part.tokens
    columns = part.columns
    held = columns["logprob"]
    logprobs = np.asarray(getattr(held, "values", held), dtype=np.float64)
    table: Alternatives | None = part.alternatives
    out = []
    for n, piece in enumerate(tokens.pieces()):
        top: tuple[tuple[bytes, float], ...] = ()
        if table is not None and k:
            top = tuple(
                (table.pieces.get(int(i), b""), float(p))
                for i, p in zip(table.ids[n, :k], table.logprobs[n, :k], strict=True)
                if i >= 0
            )
        out.append((Word(piece, float(logprobs[n]), top), tokens.labels.get(n)))
    return out
