"""One decoding in progress, as faces see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Lock

from tokenscope.control import Control
from tokenscope.decode.collect import Collector
from tokenscope.decode.engine import Engine, Plan
from tokenscope.decode.step import Step
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Finish, Trace


class Run:
    """One decoding in progress. Iterate it for Steps (in any one thread); then read ``trace``.

    ``given``: all tokens before the first decoded one. ``shared``: the measured tokens that came
    from a parent, or None. ``total``: the most tokens that the trace can have. ``cost``: a sentence
    on what it takes, "" where that goes without.
    """

    def __init__(self, engine: Engine, plan: Plan, origin: Origin, language: str) -> None:
        self.shared = plan.shared
        self.total = len(plan.given) + plan.max_new_tokens
        self.n_prompt = plan.n_prompt
        self.given = plan.given
        self.control = Control()
        self._engine = engine
        self._plan = plan
        self._lock = Lock()
        self._collector = Collector(plan.shared, plan.n_prompt, origin, language)
        self._finish: Finish = ""
        self._decoding = engine.decode(plan, self.control)
        self.cost = self._decoding.cost
        self._steps = self._go()

    def __iter__(self) -> Iterator[Step]:
        return self._steps  # one iterator for good: a loop that was left can be taken up again

    def _go(self) -> Iterator[Step]:
        try:
            for item in self._decoding:
                if isinstance(item, str):
                    self._finish = item
                    break
                with self._lock:
                    self._collector.add(item)
                yield item
        except BaseException:
            self._finish = self._finish or "error"
            raise
        finally:
            if self._finish not in ("", "error"):
                self._keep()

    def cancel(self) -> None:
        """End within one step, from any thread. What was decoded stays in ``trace``."""
        self.control.cancel()

    def join_others(self) -> None:
        """Let it get on in other runs' passes as well: one thread iterates several in turn."""
        self._decoding.join_others()

    @property
    def finish(self) -> Finish:
        """Why it ended; "" while it runs."""
        return self._finish

    @property
    def trace(self) -> Trace:
        """Everything so far: what was shared and every Step that was handed out."""
        with self._lock:
            return replace(self._collector.trace(), finish=self._finish)

    def result(self) -> Trace:
        """Run to the end and give the trace."""
        for _ in self:
            pass
        return self.trace

    def _keep(self) -> None:
        if self._decoding.state is None:
            return
        # what was measured is the model's own, whatever edits the tokens were drawn under
        self._engine.prefixes.put(self._decoding.state, self.trace)
        if self._decoding.beside is not None:
            self._engine.prefixes.put(self._decoding.beside, None, self._plan.applied.inner)
