"""One loaded model with what it keeps: start a decoding here, iterate it for Steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from tokenscope.backends.protocol import (
    Abilities,
    Backend,
    ModelInfo,
    Stepper,
    Vocabulary,
    stepper,
    vocabulary,
)
from tokenscope.control import Control
from tokenscope.decode.lookup import Cost
from tokenscope.decode.machine import Machine
from tokenscope.decode.pace import Pace
from tokenscope.decode.pieces import Pieces
from tokenscope.decode.plan import AttentionForm, Plan, Speculate
from tokenscope.decode.prefixes import Prefixes
from tokenscope.decode.scheduler import Scheduler, Task
from tokenscope.decode.served import Served
from tokenscope.decode.step import Step
from tokenscope.decode.vectors import Vectors
from tokenscope.trace.record import Finish

__all__ = ["AttentionForm", "Decoding", "Engine", "Plan", "Speculate"]


class Engine:
    """One loaded model, the memories it keeps, and the turns at it.

    ``with engine.turn:`` holds the model for something that is no decoding (hooks, gradients).
    """

    def __init__(self, backend: Backend, budget: int | None = None) -> None:
        self.backend = backend
        self.prefixes = Prefixes(backend) if budget is None else Prefixes(backend, budget)
        self.turn = Scheduler(backend, self.prefixes)
        self.pace = Pace()
        self.cost = Cost()
        self.recalled: dict[Any, Any] = {}
        self.vectors = Vectors()

    @property
    def info(self) -> ModelInfo:
        """What is known of the model."""
        return self.backend.info

    @property
    def abilities(self) -> Abilities:
        """What the backend can do."""
        return self.backend.abilities

    @property
    def vocabulary(self) -> Vocabulary:
        """Text to ids and back. Raises AbilityError where the backend does not tell."""
        return vocabulary(self.backend)

    @property
    def stepper(self) -> Stepper:
        """What is fed. Raises AbilityError where the backend decodes by itself."""
        return stepper(self.backend)

    @cached_property
    def pieces(self) -> Pieces:
        """The bytes of the whole vocabulary. Raises AbilityError where they are not told."""
        return Pieces(self.vocabulary, self.info)

    def decode(self, plan: Plan, control: Control) -> Decoding | Served:
        """Iterate the result for Steps. ``control`` ends it within one step.

        A server that decodes by itself is let do so. Raises AbilityError for what it cannot.
        """
        if self.abilities.stream:
            return Served(self.backend, self.info, self.abilities, self.vocabulary, plan, control)
        return Decoding(self, plan, control)


class Decoding:
    """One run: iterate for Steps in order and, at last, the reason for the end.

    ``state``: the model's memory of what was fed; after the end it may be kept and forked.
    ``cost``: what it takes, where that is worth a word before it begins (see decode.served).
    """

    def __init__(self, engine: Engine, plan: Plan, control: Control) -> None:
        self._turn = engine.turn
        self.machine = Machine(
            plan, engine.info, engine.abilities, engine.vocabulary, engine.pace, engine.cost,
            lambda: control.cancelled, lambda: engine.turn.crowded(self.task),
        )  # fmt: skip
        self.task = Task(self.machine, control)

    cost = ""

    def join_others(self) -> None:
        """Let it get on in other runs' passes as well."""
        self.task.together = True

    @property
    def state(self) -> Any:
        """None before the first step."""
        return self.machine.state

    @property
    def beside(self) -> Any:
        """The memory made under edits inside the model; None without such edits."""
        return self.machine.beside

    def __iter__(self) -> Iterator[Step | Finish]:
        self._turn.add(self.task)
        try:
            while True:
                found = self._turn.next(self.task)
                yield found
                if isinstance(found, str):
                    return
        finally:
            self._turn.remove(self.task)
