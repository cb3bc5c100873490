"""The address of a model server, and whether the user allowed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from tokenscope.errors import InputError

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """``http(s)://host[:port][/path][/v1][#model]``.

    ``root``: without ``/v1``, where a server's own routes lie. ``model``: the one meant where the
    server has several, "" where it is not said.
    """

    scheme: str
    host: str
    port: int
    root: str
    model: str

    @property
    def loopback(self) -> bool:
        """Whether it is this machine."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def origin(self) -> tuple[str, str, int]:
        """What permission and keys go by."""
        return self.scheme, self.host, self.port


def parse(text: str) -> ServerAddress:
    """Raises InputError; a password in an address is refused, since addresses are shown."""
    try:
        parts = urlsplit(text)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError:
        raise InputError("server", "is no address") from None
    if parts.scheme not in PORTS or not host:
        raise InputError("server", "must look like http://host:port/v1")
    if parts.username is not None or parts.password is not None:
        raise InputError("server", "an address holds no key; see docs/servers.md for keys")
    if parts.query:
        raise InputError("server", "an address has no question mark")
    return ServerAddress(
        parts.scheme, host, port or PORTS[parts.scheme], _root(parts), unquote(parts.fragment)
    )


def permit(address: ServerAddress, allowed: Sequence[str]) -> None:
    """Raise InputError unless it is this machine or one of ``allowed`` (scheme, host and port)."""
    if address.loopback or address.origin in {parse(a).origin for a in allowed}:
        return
    raise InputError(
        "server", "lies on another machine, where prompts would be sent: allow it by "
        "--allow-server with its address"
    )  # fmt: skip


def _root(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    for end in ("/chat/completions", "/completions", "/v1"):
        path = path.removesuffix(end)
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"
