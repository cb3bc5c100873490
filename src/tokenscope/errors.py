"""The errors that a user may see.

::

    TokenScopeError
    |-- InputError        what was given cannot be used; names the field      (HTTP 422, exit 2)
    |   `-- UnknownName   a name that a registry does not hold; lists the known ones
    |-- NotFound          a session, node or file that is not there           (HTTP 404, exit 2)
    |-- ModelError        a folder that cannot be loaded; names file, cause   (HTTP 422, exit 2)
    |-- AbilityError      this model or backend cannot do what was asked      (HTTP 409, exit 2)
    |-- CapacityError     it does not fit; says how much would                (HTTP 413, exit 2)
    |-- BusyError         the queue is full; come back later                  (HTTP 503, exit 3)
    |-- StoreError        the store is newer, damaged or locked               (HTTP 500, exit 3)
    `-- MissingError      the environment lacks something; says what          (HTTP 500, exit 3)

A message never echoes long or hostile input: it names the field and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable


class TokenScopeError(Exception):
    """Root of every error that TokenScope raises on purpose."""

    code: str = "error"
    status: int = 500
    exit_code: int = 2


class InputError(TokenScopeError):
    """Input that cannot be used. ``field`` names where, ``reason`` says why."""

    code = "bad_input"
    status = 422

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class UnknownName(InputError):
    """A name that is not registered. The message lists the known names."""

    code = "unknown_name"

    def __init__(self, field: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(field, f"unknown name {name[:80]!r}; known: {', '.join(self.known)}")


class NotFound(TokenScopeError):
    """A thing with an identity that the store or the disk does not hold."""

    code = "not_found"
    status = 404


class ModelError(TokenScopeError):
    """A model that cannot be loaded. ``path`` names the file, ``cause`` says why."""

    code = "bad_model"
    status = 422

    def __init__(self, path: object, cause: str) -> None:
        self.path = str(path)
        self.cause = cause
        super().__init__(f"{path}: {cause}")


class AbilityError(TokenScopeError):
    """This model or backend lacks the ability that was asked for."""

    code = "no_ability"
    status = 409


class CapacityError(TokenScopeError):
    """A request that cannot fit. ``fits`` is the number of tokens that would, if known."""

    code = "too_large"
    status = 413

    def __init__(self, message: str, fits: int | None = None) -> None:
        self.fits = fits
        super().__init__(message)


class BusyError(TokenScopeError):
    """The queue is full. ``retry_after`` is in seconds."""

    code = "busy"
    status = 503
    exit_code = 3

    def __init__(self, message: str, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StoreError(TokenScopeError):
    """The store is newer than this program, damaged, or held by another process."""

    code = "store"
    exit_code = 3


class MissingError(TokenScopeError):
    """The environment lacks a program, a package or a device."""

    code = "missing"
    exit_code = 3
