"""An explanation as server-sent events: progress, the attribution, one table after another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pydantic import BaseModel

from tokenscope.errors import TokenScopeError
from tokenscope.runs.explain import Cancelled, Control, Explaining, Explanation
from tokenscope.server import explain_wire as wire
from tokenscope.server.channel import Channel
from tokenscope.server.live import Slot
from tokenscope.server.wire import ErrorEvent
from tokenscope.store import rows

log = logging.getLogger(__name__)
# a reader needs no more than this many progress events a second
PROGRESS_EVERY = 0.1


class ExplainWriter:
    """One job on its way to a channel; what EventStream needs of a run."""

    def __init__(self, make: Callable[[Control], Explaining], node: str, slot: Slot) -> None:
        self.id = rows.new_id()
        self.node = node
        self.channel = Channel()
        self._slot = slot
        self._told = 0.0
        # made here, so that a bad request is refused before the stream begins
        self._control = Control(self._progress)
        self._job = make(self._control)
        slot.take(self)

    def cancel(self) -> None:
        """End before the next piece of work."""
        self._control.cancel()

    def write(self) -> None:
        """The thread: from the first event to the last. Never raises."""
        try:
            self._say(wire.ExplainStart(type="start", run=self.id, tables=list(self._job.also)))
            made = self._job.attribution()
            self._say(attribution(made))
            for name in self._job.also:
                table = self._job.table(made, name)
                self._say(
                    wire.TableEvent(
                        type="table", name=name, rows=table.plain(),
                        definitions=list(table.definitions), note=table.note, refused=table.refused,
                    )
                )  # fmt: skip
            self._say(wire.ExplainEnd(type="end", finish="done"))
        except Cancelled:
            self._say(wire.ExplainEnd(type="end", finish="cancelled"))
        except TokenScopeError as error:
            self._say(ErrorEvent(type="error", code=error.code, message=str(error)))
        except BaseException:  # a kernel or a tokenizer may raise what is no Exception
            log.exception("explanation %s failed", self.id)
            message = "the explanation failed; the server's log says why"
            self._say(ErrorEvent(type="error", code="internal", message=message))
        finally:
            self._slot.release()
            self.channel.end()

    def _progress(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if done in (0, total) or now - self._told >= PROGRESS_EVERY:
            self._told = now
            self._say(wire.ExplainProgress(type="progress", done=done, total=total, what=what))

    def _say(self, event: BaseModel) -> None:
        self.channel.put(b"data: " + event.model_dump_json().encode() + b"\n\n")


def attribution(made: Explanation) -> wire.AttributionEvent:
    """An explanation without its tables, as an event."""
    plain = made.to_json()
    return wire.AttributionEvent(
        type="attribution", sentence=made.sentence, at=made.target.at, token=made.token,
        token_id=made.target.a, contrast=made.contrast, contrast_id=made.target.b,
        target=made.target.kind, method=made.method, value=made.value, gap=made.gap,
        converged=made.converged, note=made.note, logprob=made.logprob_a,
        logprob_contrast=made.logprob_b,
        values=[row["value"] for row in plain["tokens"]],
        reasons=[wire.ReasonInfo(**reason) for reason in plain["reasons"]],
        evidence=None if made.evidence is None else wire.EvidenceInfo(**plain["evidence"]),
        beside=made.beside,
    )  # fmt: skip
