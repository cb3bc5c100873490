"""The errors that a user may see.

::

    TokenScopeError
    |-- InputError        what was given cannot be used; names the field      (HTTP 422, exit 2)
    |   `-- UnknownName   a name that a registry does not hold; lists the known ones
    |-- NotFound          a session, node or file that is not there           (HTTP 404, exit 2)
    |-- ModelError        a folder that cannot be loaded; names file, cause   (HTTP 422, exit 2)
    |-- AbilityError      this model or backend cannot do what was asked      (HTTP 409, exit 2)
    |   `-- ModelNotLoaded  the server has to load a model for it first
    |-- CapacityError     it does not fit; says how much would                (HTTP 413, exit 2)
    |-- BusyError         the queue is full; come back later                  (HTTP 503, exit 3)
    |-- RemoteError       a model server that does not do what it should      (HTTP 502, exit 3)
    |-- StoreError        sessions cannot be kept or read; cause and remedy   (HTTP 500, exit 3)
    |   |-- StoreFull         no room on the disk                             (HTTP 507)
    |   |-- StoreLocked       somebody else holds the folder or the database  (HTTP 503)
    |   |-- StoreReadOnly     it may not be written
    |   |-- StoreGone         the folder, or a file in it, is not there any more
    |   |-- StoreFailing      the disk itself fails
    |   |-- StoreDamaged      a file holds what was never written there
    |   `-- StoreNewer        written by a newer TokenScope
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


class ModelNotLoaded(AbilityError):
    """The model that this asks for is not loaded. ``model``: its id, if the server offers it."""

    code = "model_not_loaded"

    def __init__(self, message: str, model: str = "") -> None:
        self.model = model
        super().__init__(message)


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


class RemoteError(TokenScopeError):
    """A model server that cannot be used, or fails; ``cause`` never repeats what was sent to it."""

    code = "model_server"
    status = 502
    exit_code = 3

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(f"the model server: {cause}")


class StoreError(TokenScopeError):
    """Sessions cannot be kept, or read back. ``path``: what it is about; ``remedy``: what to do."""

    code = "store"
    exit_code = 3
    says: str = "cannot be used"
    remedy: str = ""

    def __init__(self, path: object, reason: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        cause = f"{self.says} ({reason})" if reason else self.says
        super().__init__(f"{path}: {cause}{'; ' if self.remedy else ''}{self.remedy}")


class StoreFull(StoreError):
    """No room is left on the disk, or in the user's share of it."""

    code = "store_full"
    status = 507
    says = "the disk is full"
    remedy = "what was kept is safe: make room on it, then go on"


class StoreLocked(StoreError):
    """Somebody else holds the data folder, or its database for too long."""

    code = "store_locked"
    status = 503
    says = "is held by another program"
    remedy = "nothing is damaged: wait, or stop the other one, and try again"


class StoreReadOnly(StoreError):
    """What must be written may not be."""

    code = "store_read_only"
    says = "may not be written"
    remedy = "nothing is damaged: give this user the right to write there, and try again"


class StoreGone(StoreError):
    """The data folder, or a file in it, was moved, removed or replaced."""

    code = "store_gone"
    says = "is not there (any more), or is something else now"
    remedy = "put it back, or restart with --data on a folder that exists"


class StoreFailing(StoreError):
    """The disk does not do what it is asked."""

    code = "store_failing"
    says = "the disk failed"
    remedy = "look at the disk and at the system's log; copy the data folder before anything else"


class StoreDamaged(StoreError):
    """A file of the store is not as it was written."""

    code = "store_damaged"
    says = "is damaged"
    remedy = "keep a copy of it, and restore the last backup into another folder"


class StoreNewer(StoreError):
    """The store was written by a newer TokenScope; it is left as it is."""

    code = "store_newer"
    says = "was written by a newer TokenScope"
    remedy = "install that one, or choose another folder with --data"


class MissingError(TokenScopeError):
    """The environment lacks a program, a package or a device."""

    code = "missing"
    exit_code = 3
