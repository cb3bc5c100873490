"""How far loading a model is: told from wherever the time goes, heard by whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tokenscope.control import QUIET, Control

# what is done when, in hundredths: weights take most of the time, and tell their own share
STAGES = {
    "looking at the files": 0, "trying the tokenizer": 4, "reading the weights": 8,
    "checking against its own forward": 80, "measuring what its numbers cost": 90,
}  # fmt: skip
WEIGHTS, WEIGHTS_END = 8, 80
PAUSES = 32
_control: ContextVar[Control] = ContextVar("loading", default=QUIET)


@contextmanager
def watched(control: Control | None) -> Iterator[None]:
    """Loading inside the block tells ``control``, which can end it between two tensors; None: who
    was told before goes on being told."""
    token = _control.set(_control.get() if control is None else control)
    try:
        yield
    finally:
        _control.reset(token)


def stage(what: str) -> None:
    """One of STAGES begins. Raises Cancelled."""
    _control.get().step(STAGES[what], 100, what)


def weights(done: int, total: int) -> None:
    """``done`` of ``total`` tensors are read. Raises Cancelled."""
    share = WEIGHTS + (WEIGHTS_END - WEIGHTS) * done // max(total, 1)
    _control.get().step(share, 100, "reading the weights")


def heard_by_transformers(between: Callable[[], object] | None = None) -> None:
    """The bar that transformers would draw while it reads weights tells this instead.

    ``between`` is called PAUSES times on the way, and after the last tensor.
    """
    from transformers.utils import logging

    def hook(factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("desc") == "Loading weights" and args:
            return _Counted(args[0], between)
        return factory(*args, **kwargs)

    logging.set_tqdm_hook(hook)


class _Counted:
    def __init__(self, items: Iterable[Any], between: Callable[[], object] | None) -> None:
        self._items, self._between = list(items), between

    def __iter__(self) -> Iterator[Any]:
        often = max(1, len(self._items) // PAUSES)
        for n, item in enumerate(self._items):
            weights(n, len(self._items))
            yield item
            if self._between is not None and (n % often == 0 or n + 1 == len(self._items)):
                self._between()
