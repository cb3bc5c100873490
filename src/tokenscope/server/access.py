"""Who may talk to the server: its key, its names, and the addresses that it may listen on."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from tokenscope.errors import InputError, StoreError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Access:
    """Who may talk to the server. ``hosts``: names besides the loopback ones; ``token``: the key.

    ``https``: the browser speaks TLS with us or with the proxy before us. ``recorder``: the key of
    ``/v1``, None where that is off.
    """

    token: str = field(repr=False)
    hosts: frozenset[str] = frozenset()
    https: bool = False
    recorder: str | None = field(default=None, repr=False)

    @property
    def cookie(self) -> str:
        """Its name; differs per key, because cookies are shared by all ports of a host."""
        return "tokenscope_" + hashlib.sha256(b"name" + self.token.encode()).hexdigest()[:8]

    @property
    def pass_(self) -> str:
        """What the cookie holds: proves that the key was known, but is not the key."""
        return hmac.new(self.token.encode(), b"tokenscope session", "sha256").hexdigest()

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server."""
        name = _host_name(host)
        return name in LOOPBACK or name in self.hosts


def stored_token(folder: Path, renew: bool = False, name: str = "token") -> str:
    """A key of a data folder: 256 random bits, mode 0600, made at the first start."""
    path = folder / name
    try:
        if not renew and path.exists():
            path.chmod(0o600)
            held = path.read_text("ascii").strip()
            if len(held) == 64:
                return held
        token = secrets.token_hex(32)
        temporary = path.with_suffix(".part")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        os.replace(temporary, path)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(path, f"the key cannot be stored: {error}") from error
    return token


def check_bind(host: str, tls: bool, behind_proxy: bool, hosts: Iterable[str]) -> None:
    """A server that others can reach must have TLS (or a proxy with it) and know its names.

    Raises InputError otherwise.
    """
    if host in LOOPBACK or _is_loopback(host):
        return
    if not (tls or behind_proxy):
        raise InputError(
            "--host", f"{host} can be reached from outside: give --tls-cert and --tls-key, or "
            "--behind-proxy when a proxy before it speaks TLS"
        )  # fmt: skip
    if not list(hosts):
        raise InputError("--allow-host", "name the host that browsers will ask for")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
