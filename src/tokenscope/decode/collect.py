"""Steps stack into a Trace."""

from __future__ import annotations

from collections.abc import Sequence

from tokenscope.decode.step import Step
from tokenscope.trace.join import join
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace


class Collector:
    """Gathers Steps after a shared start; ``trace`` puts together what is there so far."""

    def __init__(
        self, shared: Trace | None, n_prompt: int, origin: Origin, language: str = ""
    ) -> None:
        self._base = shared
        self._n_prompt = n_prompt
        self._origin = origin
        self._language = language
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """One step more; it must begin where the last one ended."""
        self._steps.append(step)

    def trace(self) -> Trace:
        """Everything so far as a trace. Folds the steps, so that asking often stays cheap."""
        folded = fold(self._base, self._steps, self._n_prompt, self._origin, self._language)
        self._base, self._steps = folded, []
        return folded


def fold(
    base: Trace | None, steps: Sequence[Step], n_prompt: int, origin: Origin, language: str
) -> Trace:
    """A trace from a start (or None) and the steps after it; missing values become NaN."""
    return join(base, steps, n_prompt=n_prompt, origin=origin, language=language)
