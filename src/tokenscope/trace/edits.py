"""What was done to a sequence that the model did not do by itself: part of a trace's origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tokenscope.registry import Registry

EDITS: Registry[type[Edit]] = Registry("edit")


@dataclass(frozen=True, slots=True)
class Edit:
    """Root of all edits. ``kind`` names the type on the wire."""

    kind: ClassVar[str] = "edit"

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :func:`from_json` reads back."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Force(Edit):
    """Tokens that were put in at ``at`` in place of what stood there: the start of a branch.

    ``ids`` are the tokens put in; ``was`` is the id that stood at ``at`` before (-1: none).
    """

    kind: ClassVar[str] = "force"
    at: int
    ids: tuple[int, ...]
    was: int = -1


EDITS.add("force", Force)


def from_json(data: Mapping[str, Any]) -> Edit:
    """Read one edit back. Raises UnknownName for a kind that this version does not know."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    return EDITS.get(str(data.get("kind")))(**fields)
