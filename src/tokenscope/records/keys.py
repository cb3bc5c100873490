"""The key that signs the heads of the log: made on request, for the owner alone, replaceable.

Ed25519 (RFC 8032) by the ``cryptography`` library. The private key is a PEM file with mode 0600;
public keys stand in the log itself as records of the kind ``key``, a new one signed by the one
that it replaces. A key is named by its fingerprint: the first 16 digits of the SHA-256 of its
32 raw bytes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tokenscope import disk
from tokenscope.errors import InputError
from tokenscope.records.chain import digest


def fingerprint(public: bytes) -> str:
    """The name of a public key (32 raw bytes)."""
    return digest(public)[:16]


def verified(public: bytes, message: bytes, signature: str) -> bool:
    """Whether ``signature`` (hexadecimal) of ``message`` is by the key ``public``."""
    if signature != signature.lower():  # one spelling: a flipped byte is another signature
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Keys:
    """The private key in a file. Nothing is read until somebody signs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key: Ed25519PrivateKey | None = None

    @property
    def there(self) -> bool:
        """Whether there is a key."""
        return self._key is not None or self.path.is_file()

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes. Raises InputError."""
        return self._private().public_key().public_bytes_raw()

    def sign(self, message: bytes) -> str:
        """The signature of a message, hexadecimal. Raises InputError where no key can be used."""
        return self._private().sign(message).hex()

    def prepare(self) -> bytes:
        """Write a new key beside the one in use. Returns its public half.

        Raises StoreError when it cannot be written.
        """
        new = Ed25519PrivateKey.generate()
        pem = new.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )  # fmt: skip
        disk.make_folder(self.path.parent)
        disk.write_whole(self._next, [pem], mode=0o600)
        return new.public_key().public_bytes_raw()

    def take(self) -> None:
        """Use the key that was prepared from now on. Raises StoreError; the old one then stays."""
        with disk.reported(self.path):
            os.replace(self._next, self.path)
        disk.sync_folder(self.path.parent)
        self._key = None

    @property
    def _next(self) -> Path:
        return self.path.with_name(f"{self.path.name}.next")

    def _private(self) -> Ed25519PrivateKey:
        if self._key is None:
            self._key = _read(self.path)
        return self._key


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise InputError("key", f"{path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError("key", f"{path} can be read by others: chmod 600 it, or make a new one")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise InputError("key", f"{path} is not a private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("key", f"{path} is not an Ed25519 key")
    return key
