"""What was done to a sequence that the model did not do by itself: part of a trace's origin.

Two kinds. :class:`Force` happened once, at a position. *Standing* edits (``standing`` is true)
hold for every token of a segment: they are given as ``Settings.edits``, change the distribution
that is sampled from, and leave the model's own columns alone. Who applies an edit is registered
by its kind (``decode.appliers``), so that a trace can be read where nothing can be applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from tokenscope.errors import InputError
from tokenscope.registry import Registry

EDITS: Registry[type[Edit]] = Registry("edit")


@dataclass(frozen=True, slots=True)
class Edit:
    """Root of all edits. ``kind`` names the type on the wire."""

    kind: ClassVar[str] = "edit"
    standing: ClassVar[bool] = True

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :func:`from_json` reads back."""
        return {"kind": self.kind, **asdict(self)}

    def before(self, end: int) -> Edit | None:
        """What of it concerns the tokens before ``end``; None when nothing does."""
        return self


@dataclass(frozen=True, slots=True)
class Force(Edit):
    """Tokens that were put in at ``at`` in place of what stood there: the start of a branch.

    ``ids`` are the tokens put in; ``was`` is the id that stood at ``at`` before (-1: none).
    """

    kind: ClassVar[str] = "force"
    standing: ClassVar[bool] = False
    at: int
    ids: tuple[int, ...]
    was: int = -1

    def before(self, end: int) -> Force | None:
        """The tokens put in before ``end``; None when it lies wholly after."""
        return replace(self, ids=self.ids[: end - self.at]) if self.at < end else None


@dataclass(frozen=True, slots=True)
class Bias(Edit):
    """``amount`` nats are added to the logit of each of ``ids`` before sampling."""

    kind: ClassVar[str] = "bias"
    ids: tuple[int, ...]
    amount: float

    def __post_init__(self) -> None:
        _ids(self.kind, self.ids)
        if not isinstance(self.amount, (int, float)) or not abs(self.amount) <= 1e4:
            raise InputError("bias", "the amount must lie in -10000..10000")


@dataclass(frozen=True, slots=True)
class Ban(Edit):
    """None of ``ids`` can be drawn."""

    kind: ClassVar[str] = "ban"
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        _ids(self.kind, self.ids)


@dataclass(frozen=True, slots=True)
class UnknownEdit(Edit):
    """An edit of a newer version: kept as it was read. It cannot be applied.

    ``name`` is its kind, ``data`` everything else.
    """

    kind: ClassVar[str] = "unknown"
    name: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """The dict that it was read from."""
        return {"kind": self.name, **self.data}


for _kind in (Force, Bias, Ban):
    EDITS.add(_kind.kind, _kind)


def _ids(name: str, ids: tuple[int, ...]) -> None:
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise InputError(name, "needs at least one token id, each a whole number, 0 or more")


def from_json(data: Mapping[str, Any]) -> Edit:
    """Read one edit back; a kind, or fields, that this version does not know give UnknownEdit."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    name = str(data.get("kind"))
    if name in EDITS:
        try:
            return EDITS.get(name)(**fields)
        except (TypeError, InputError):  # fields of another version
            pass
    return UnknownEdit(name, {k: v for k, v in data.items() if k != "kind"})
