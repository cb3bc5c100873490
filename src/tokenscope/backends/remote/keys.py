"""Keys of model servers: from the environment or a file of the owner's, never from an address.

``TOKENSCOPE_SERVER_KEY`` is the key of every server that is opened. ``TOKENSCOPE_SERVER_KEYS``
names a file, mode 0600, with one server a line: its address, a space, its key.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tokenscope.backends.remote.address import ServerAddress, parse
from tokenscope.errors import InputError

KEY, FILE = "TOKENSCOPE_SERVER_KEY", "TOKENSCOPE_SERVER_KEYS"
MOST_BYTES = 1 << 20


def key_for(address: ServerAddress) -> str | None:
    """The key of a server, or None. Raises InputError for a file that others may read."""
    named = os.environ.get(FILE)
    if named:
        for line in _lines(Path(named).expanduser()):
            where, _, key = line.partition(" ")
            if key.strip() and parse(where).origin == address.origin:
                return _sound(key.strip())
    given = os.environ.get(KEY, "").strip()
    return _sound(given) if given else None


def _lines(path: Path) -> list[str]:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
                raise InputError(FILE, "others may read that file: chmod 600")
            text = file.read(MOST_BYTES).decode()
    except OSError as error:
        raise InputError(FILE, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(FILE, "is not UTF-8") from None
    held = (line.strip() for line in text.splitlines())
    return [line for line in held if line and not line.startswith("#")]


def _sound(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        raise InputError(KEY, "holds characters that no header can carry")
    return key
