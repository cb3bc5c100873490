"""Names to things: one small table type for metrics, checks, views, methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Generic, TypeVar

from tokenscope.errors import UnknownName

T = TypeVar("T")

_PROMISED: dict[str, dict[str, str]] = {}  # kind -> name -> module, for registries yet to come


def promise(kind: str, module: str, *names: str) -> None:
    """Promise names in the registry of that kind before it is there: nothing is imported for it."""
    _PROMISED.setdefault(kind, {}).update(dict.fromkeys(names, module))


class Registry(Generic[T]):
    """A map from a name to a thing; an unknown name lists the known ones.

    A name may be promised before its thing is there. Promised names count everywhere: in
    :meth:`names`, ``in``, ``len`` and iteration, which imports what it has to. The order is that
    in which the names were first heard of.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        # each with the module that promised it, or ""
        self._names: dict[str, str] = dict(_PROMISED.get(kind, {}))
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register ``item``. Raises ValueError when the name is taken by another thing."""
        held = self._items.get(name, item)
        if held is not item:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._names.setdefault(name, "")
        self._items[name] = item
        return item

    def promise(self, name: str, module: str) -> None:
        """``module`` will register ``name`` when it is imported: at the first :meth:`get`."""
        self._names.setdefault(name, module)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""
        return lambda item: self.add(name, item)

    def get(self, name: str) -> T:
        """The thing called ``name``. Raises UnknownName, which lists the known names, and
        RuntimeError when the module that promised the name does not register it."""
        if name not in self:
            raise UnknownName(self.kind, str(name), self.names())
        if name not in self._items:
            import_module(self._names[name])
        if name not in self._items:
            module = self._names[name]
            raise RuntimeError(f"{module} promised the {self.kind} {name!r} and has none")
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        """All names, promised ones included."""
        return tuple(self._names)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return ((name, self.get(name)) for name in self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)
