"""What was done to a sequence that the model did not do by itself: part of a trace's origin.

Two kinds. :class:`Force` happened once, at a position. :class:`Standing` edits hold for the tokens
of a segment, or for some of them: they are given as ``Settings.edits``, change the distribution
that is sampled from, and leave the model's own columns alone. Those that rule the text that may
come are in ``trace.constraints``, those inside the model in ``trace.inside``. Who applies an edit
is registered by its kind (``decode.appliers``), so that a trace can be read where nothing can be
applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
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
class Standing(Edit):
    """An edit in force from token ``at`` up to, not including, token ``until`` (None: no end).

    ``anchors``: what it says depends on where it began (a grammar, a deadline). There ``at`` 0
    stands for the first token that is decoded; a run writes the real index into its origin, so
    that a branch goes on with it instead of beginning anew.
    """

    anchors: ClassVar[bool] = False
    at: int = field(default=0, kw_only=True)
    until: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises InputError for positions that make no sense."""
        whole(self.kind, "at", self.at)
        if self.until is not None:
            whole(self.kind, "until", self.until)
            if self.until <= self.at:
                raise InputError(self.kind, "until must come after at")

    def holds(self, position: int) -> bool:
        """Whether it is in force for the token at ``position``."""
        return self.at <= position and (self.until is None or position < self.until)

    def anchored(self, begin: int, end: int) -> Standing:
        """The same with the index where it begins, of a run that decodes ``begin..end-1``."""
        return replace(self, at=begin) if self.anchors and self.at == 0 else self


@dataclass(frozen=True, slots=True)
class Bias(Standing):
    """``amount`` nats are added to the logit of each of ``ids`` before sampling."""

    kind: ClassVar[str] = "bias"
    ids: tuple[int, ...]
    amount: float

    def __post_init__(self) -> None:
        self.check()
        _ids(self.kind, self.ids)
        nats(self.kind, self.amount)


@dataclass(frozen=True, slots=True)
class Ban(Standing):
    """None of ``ids`` can be drawn."""

    kind: ClassVar[str] = "ban"
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        self.check()
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
for _name in (
    "bias_text", "ban_text", "require", "regex", "json_schema", "grammar", "viable", "ban_code",
):  # fmt: skip
    EDITS.promise(_name, "tokenscope.trace.constraints")
for _name in ("ablate", "attend", "steer", "patch"):
    EDITS.promise(_name, "tokenscope.trace.inside")


def _ids(name: str, ids: tuple[int, ...]) -> None:
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise InputError(name, "needs at least one token id, each a whole number, 0 or more")


def whole(name: str, what: str, value: object, low: int = 0, high: int = 1 << 31) -> None:
    """Raises InputError for what is no whole number in ``low..high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(name, f"{what} must be a whole number in {low}..{high}")


def nats(name: str, amount: object) -> None:
    """Raises InputError for what cannot be added to a logit."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not abs(amount) <= 1e4:
        raise InputError(name, "the amount must lie in -10000..10000")


def strings(name: str, what: str, values: object, most: int = 1000, length: int = 4000) -> None:
    """Raises InputError for what is no tuple of up to ``most`` strings of UTF-8, none empty."""
    held = values if isinstance(values, tuple) else ()
    good = 0 < len(held) <= most
    if not good or not all(isinstance(v, str) and 0 < len(v) <= length for v in held):
        raise InputError(name, f"{what} must hold 1 to {most} strings of 1 to {length} characters")
    for value in held:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(name, f"{what} must be valid UTF-8") from None


def one_of(name: str, what: str, value: object, known: tuple[str, ...]) -> None:
    """Raises InputError for a value that is not among ``known``."""
    if value not in known:
        raise InputError(name, f"{what} must be one of {', '.join(known)}")


def from_json(data: Mapping[str, Any]) -> Edit:
    """Read one edit back; a kind, or fields, that this version does not know give UnknownEdit."""
    name = str(data.get("kind"))
    if name in EDITS:
        try:
            return EDITS.get(name)(**_fields(data))
        except (TypeError, InputError):  # fields of another version
            pass
    return UnknownEdit(name, {k: v for k, v in data.items() if k != "kind"})


def read(data: object) -> Standing:
    """A standing edit from a plain dict that somebody wrote: what is wrong with it is said.

    Raises UnknownName for a kind, InputError for a field.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("kind"), str):
        raise InputError("edits", "each must be a table with a kind")
    kind: Any = EDITS.get(data["kind"])
    if not issubclass(kind, Standing):
        raise InputError("edits", f"{data['kind']} happens once, at a position; it cannot stand")
    known = {f.name for f in fields(kind)}
    if not set(data) - {"kind"} <= known:
        raise InputError(data["kind"], f"knows no other fields than {', '.join(sorted(known))}")
    try:
        made: Standing = kind(**_fields(data))
    except TypeError as error:
        missing = ", ".join(f.name for f in fields(kind) if f.name not in data and _needed(f))
        raise InputError(data["kind"], f"needs {missing or 'other fields'}") from error
    return made


def _needed(field_: Any) -> bool:
    return field_.default is MISSING and field_.default_factory is MISSING


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(_hashable(v)) if isinstance(v, list) else v
            for k, v in data.items() if k != "kind"}  # fmt: skip


def _hashable(values: list[Any]) -> list[Any]:
    return [tuple(v) if isinstance(v, list) else v for v in values]
