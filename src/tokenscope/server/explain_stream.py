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


class Writer:
    """One job on its way to a channel; what EventStream needs of a run."""

    def __init__(self, node: str, slot: Slot) -> None:
        """The job itself is made by the subclass, with ``control``, before the stream begins, so
        that a bad request is refused; then it takes the slot."""
        self.id = rows.new_id()
        self.node = node
        self.channel = Channel()
        self.control = Control(self._progress)
        self._slot = slot
        self._told = 0.0

    def cancel(self) -> None:
        """End before the next piece of work."""
        self.control.cancel()

    def tell(self) -> None:
        """Do the work and :meth:`say` what comes, but for the last event."""
        raise NotImplementedError

    def write(self) -> None:
        """The thread: from the first event to the last. Never raises."""
        try:
            self.tell()
            self.say(wire.ExplainEnd(type="end", finish="done"))
        except Cancelled:
            self.say(wire.ExplainEnd(type="end", finish="cancelled"))
        except TokenScopeError as error:
            self.say(ErrorEvent(type="error", code=error.code, message=str(error)))
        except BaseException:  # a kernel or a tokenizer may raise what is no Exception
            log.exception("explanation %s failed", self.id)
            message = "the explanation failed; the server's log says why"
            self.say(ErrorEvent(type="error", code="internal", message=message))
        finally:
            self._slot.release()
            self.channel.end()

    def _progress(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if done in (0, total) or now - self._told >= PROGRESS_EVERY:
            self._told = now
            self.say(wire.ExplainProgress(type="progress", done=done, total=total, what=what))

    def say(self, event: BaseModel) -> None:
        """One event to the channel."""
        self.channel.put(b"data: " + event.model_dump_json().encode() + b"\n\n")


class ExplainWriter(Writer):
    """An explanation: the attribution, then one table after another."""

    def __init__(self, make: Callable[[Control], Explaining], node: str, slot: Slot) -> None:
        super().__init__(node, slot)
        self._job = make(self.control)
        slot.take(self)

    def tell(self) -> None:
        self.say(wire.ExplainStart(type="start", run=self.id, tables=list(self._job.also)))
        made = self._job.attribution()
        self.say(attribution(made))
        for name in self._job.also:
            table = self._job.table(made, name)
            self.say(
                wire.TableEvent(
                    type="table", name=name, rows=table.plain(),
                    definitions=list(table.definitions), note=table.note, refused=table.refused,
                )
            )  # fmt: skip


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
    )  # fmt: skip
