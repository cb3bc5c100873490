"""The last requests to the recorder: who asked, for what, what came of it. No text is kept here."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenscope.server.recorder.answer import Choice

KEPT = 50
PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def product(client: str) -> str:
    """The name that a User-Agent begins with."""
    found = PRODUCT.search(client)
    return found.group() if found else "client"


@dataclass(slots=True)
class Call:
    """One request. ``seconds`` is None while it runs; ``error``: the code of what failed."""

    client: str
    kind: Literal["completion", "chat"]
    model: str
    streamed: bool
    choices: int
    state: Literal["running", "done", "failed", "left"] = "running"
    finish: str | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float | None = None
    session: str | None = None
    node: str | None = None
    error: str | None = None
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    began: float = field(default_factory=time.monotonic)
    runs: tuple[Choice, ...] = ()

    def end(self, error: BaseException | None = None, left: bool = False) -> None:
        """It is over: every choice is done, one failed, or the client left."""
        self.look()
        self.runs = ()  # they hold what was asked
        self.seconds = round(time.monotonic() - self.began, 3)
        self.state = "failed" if error is not None else "left" if left else "done"
        self.error = None if error is None else str(getattr(error, "code", "internal"))

    def look(self) -> None:
        """What stands by now."""
        runs = self.runs
        if runs:
            self.prompt_tokens = max(c.counts.prompt for c in runs)
            self.tokens = sum(c.counts.made for c in runs)
            self.session, self.node, self.finish = runs[0].session, runs[0].node, runs[0].finish


class Calls:
    """The last ``KEPT``; safe to use from several threads."""

    def __init__(self) -> None:
        self._held: deque[Call] = deque(maxlen=KEPT)
        self._guard = threading.Lock()

    def begin(
        self, client: str, kind: Literal["completion", "chat"], model: str, streamed: bool,
        choices: Sequence[Choice],
    ) -> Call:  # fmt: skip
        """A request that was let in. ``client``: its User-Agent."""
        call = Call(product(client), kind, model, streamed, len(choices), runs=tuple(choices))
        with self._guard:
            self._held.appendleft(call)
        return call

    def last(self) -> list[Call]:
        """The latest first; those that run as they stand."""
        with self._guard:
            held = list(self._held)
        for call in held:
            call.look()
        return held
