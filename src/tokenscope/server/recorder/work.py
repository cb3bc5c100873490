"""One completion as a run: recorded as a branch that pages watch, or, while paused, only made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenscope.decode.step import Step
from tokenscope.runs.run import Run
from tokenscope.server import wire
from tokenscope.server.decode_job import Decode
from tokenscope.server.decoding import begun
from tokenscope.server.house import House
from tokenscope.server.jobs import Job
from tokenscope.server.recorder.state import Recorder
from tokenscope.server.recorder.tap import Ears, Tap
from tokenscope.store import Recording
from tokenscope.trace import Trace

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

Start = Callable[["Model"], Run]


@dataclass(frozen=True)
class Wanted:
    """A completion that is to be made: how its run begins, and what is kept as its request."""

    start: Start
    body: wire.GenerateRequest
    client: str


class Recorded(Decode):
    """Decoding for a client: it watches, whether or not a page does."""

    ears: Ears

    def run(self, job: Job) -> None:
        """As any decoding; the client hears of the end, too."""
        job.attended = True
        try:
            super().run(job)
        except BaseException as error:
            self.ears.tell(error)
            raise
        self.ears.tell(None)


class Begun:
    """A run under way. ``cancel`` ends it within a step; ``session`` and ``node``: where it is
    written, None where it is not."""

    def __init__(
        self, tap: Tap, cancel: Callable[[], None], session: str | None = None,
        node: str | None = None,
    ) -> None:  # fmt: skip
        self.tap = tap
        self.cancel = cancel
        self.session, self.node = session, node


def begin(house: House, recorder: Recorder, wanted: Wanted, ears: Ears) -> Begun:
    """Start it, in a thread that may wait. Raises BusyError and what a run refuses."""
    model = house.models.get(wanted.body.model)
    if recorder.paused:
        return _unrecorded(house, model, wanted, ears)
    with begun(house, model, "generate", _kept(wanted.body, recorder)) as beginning:
        tap = Tap(wanted.start(model), ears.tell, recorder.redaction)
        session = recorder.session(house.store, wanted.client)

        def work(
            run: Run, recording: Recording, from_parent: bool, stored: Callable[[], Trace],
            held: ExitStack,
        ) -> Decode:  # fmt: skip
            made = Recorded(run, recording, from_parent, stored, held)
            made.ears = ears
            return made

        info = beginning.go(tap, session, work=work)  # type: ignore[arg-type]
        job = house.jobs.get(info.run)
        return Begun(tap, job.cancel, info.session, info.node)


def _kept(body: wire.GenerateRequest, recorder: Recorder) -> wire.GenerateRequest:
    """What of a request may be kept."""
    hide = recorder.redaction
    if hide is None:
        return body
    messages = body.messages
    if messages is not None:
        messages = [m.model_copy(update={"content": hide.text(m.content) or ""}) for m in messages]
    return body.model_copy(update={
        "prompt": hide.text(body.prompt), "suffix": hide.text(body.suffix), "messages": messages,
    })  # fmt: skip


def _unrecorded(house: House, model: Model, wanted: Wanted, ears: Ears) -> Begun:
    """Made for the client alone: no branch, no event, nothing on the disk."""
    import threading

    held = ExitStack()
    try:
        place = held.enter_context(house.jobs.place())
        held.enter_context(house.models.lease(model))
        tap = Tap(wanted.start(model), ears.tell)
    except BaseException:
        held.close()
        raise
    assert not place.given

    def go() -> None:
        try:
            with held:
                for _ in tap:
                    if house.jobs.closed:
                        tap.cancel()
        except BaseException as error:  # noqa: BLE001 (the client's coroutine raises it)
            ears.tell(error)
        else:
            ears.tell(None)

    threading.Thread(target=go, name="unrecorded", daemon=True).start()
    return Begun(tap, tap.cancel)


def steps_of(begun: Begun) -> list[Step | Trace]:
    """What was measured before the run began, as one piece; or nothing."""
    shared = begun.tap.heard
    return [shared] if shared is not None and len(shared) else []
