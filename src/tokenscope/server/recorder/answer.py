"""One completion as a client gets it: parts of text with their tokens, then why it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread

from tokenscope.errors import BusyError
from tokenscope.server.house import House
from tokenscope.server.recorder.state import Recorder
from tokenscope.server.recorder.tap import Ears, words
from tokenscope.server.recorder.text import Sent, Text, Word
from tokenscope.server.recorder.work import Begun, Wanted, begin, steps_of

FINISH = {"eos": "stop", "stop": "stop", "length": "length", "scored": "length"}
AGAIN = 0.05  # seconds until a place that the page took is looked at again


@dataclass(slots=True)
class Counts:
    """Tokens of the prompt and of what was made."""

    prompt: int = 0
    made: int = 0


class Choice:
    """The run behind one choice. Iterate it for Sent; then ``finish`` and ``counts`` stand."""

    def __init__(
        self, house: House, recorder: Recorder, wanted: Wanted, stops: list[str], k: int,
        echo: bool = False,
    ) -> None:  # fmt: skip
        self._house, self._recorder, self._wanted = house, recorder, wanted
        self._text = Text(stops)
        self._k, self._echo = k, echo
        self._echoed = Text()
        self.counts = Counts()
        self.finish: str | None = None
        self.session: str | None = None
        self.node: str | None = None

    async def parts(self) -> AsyncGenerator[Sent]:
        """What may go out, piece by piece. When it is left early the run ends within a step."""
        async with self._recorder.turn():
            ears = Ears()
            run = await anyio.to_thread.run_sync(
                self._begin, ears, abandon_on_cancel=False, limiter=self._recorder.threads
            )
            self.session, self.node = run.session, run.node
            over = False
            try:
                for part in steps_of(run):
                    for sent in self._given(words(part, self._k)):
                        yield sent
                while (step := await ears.next()) is not None:
                    held = words(step, self._k)
                    if step.prompt:
                        for sent in self._given(held):
                            yield sent
                        continue
                    for word, label in held:
                        self.counts.made += label is None
                        self._text.begin = self._echoed.sent
                        if label is None and (sent := self._text.add(word)):
                            yield sent
                over = True
            finally:
                if not over:
                    run.cancel()
            if sent := self._text.rest():
                yield sent
            self.counts.prompt = run.tap.n_prompt
            self.finish = "stop" if self._text.stopped else FINISH.get(run.tap.finish)

    def _given(self, held: list[tuple[Word, str | None]]) -> list[Sent]:
        """The prompt's own tokens, where they are wanted back."""
        if not self._echo:
            return []
        return [sent for w, label in held if label is None and (sent := self._echoed.add(w))]

    def _begin(self, ears: Ears) -> Begun:
        """In a thread: a place may be the page's just now."""
        end = time.monotonic() + self._recorder.limits.seconds
        while True:
            try:
                return begin(self._house, self._recorder, self._wanted, ears)
            except BusyError:
                if time.monotonic() > end or self._house.jobs.closed:
                    raise
                time.sleep(AGAIN)


async def whole(choice: Choice) -> Sent:
    """All of a choice at once."""
    found = Sent()
    async for part in choice.parts():
        found.text += part.text
        found.words += part.words
    return found


async def all_of(choices: list[Choice], leaving: asyncio.Task[None]) -> list[Sent] | None:
    """All choices, made side by side; None when the client left first. Whatever ends it early
    ends every run within a step."""
    work = [asyncio.ensure_future(whole(choice)) for choice in choices]
    together = asyncio.gather(*work)
    either: set[asyncio.Future[Any]] = {together, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return together.result() if together.done() else None
    finally:
        together.cancel()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, together, return_exceptions=True)
