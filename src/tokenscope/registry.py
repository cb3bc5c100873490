"""Names to things: one small table type for metrics, checks, views, methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Generic, TypeVar

from tokenscope.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """An insertion-ordered map from a name to a thing; an unknown name lists the known ones."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._homes: dict[str, str] = {}

    def add(self, name: str, item: T) -> T:
        """Register ``item``. Raises ValueError when the name is taken by another thing."""
        held = self._items.get(name)
        if held is not None and held is not item:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._items[name] = item
        return item

    def promise(self, name: str, module: str) -> None:
        """``module`` will register ``name`` when it is imported: at the first :meth:`get`."""
        self._homes[name] = module

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""
        return lambda item: self.add(name, item)

    def get(self, name: str) -> T:
        """The thing called ``name``. Raises UnknownName, which lists the known names."""
        if name not in self._items and name in self._homes:
            import_module(self._homes[name])
        try:
            return self._items[name]
        except KeyError:
            raise UnknownName(self.kind, str(name), self.names()) from None

    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(dict.fromkeys([*self._items, *self._homes]))

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(self._items.items())

    def __contains__(self, name: object) -> bool:
        return name in self._items or name in self._homes

    def __len__(self) -> int:
        return len(self._items)
