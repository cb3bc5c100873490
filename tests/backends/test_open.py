"""An address goes to the backend that takes it, and what cannot be opened is refused plainly."""

from __future__ import annotations

import socket

import pytest

import tokenscope as ts
from tokenscope.backends.open import OPENERS, open_backend
from tokenscope.errors import InputError, ModelError, RemoteError


def test_a_server_that_is_not_there_or_not_allowed_says_what_to_do() -> None:
    with socket.socket() as probe:  # a port that nobody listens on
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RemoteError, match="cannot be reached"):
        ts.load(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(InputError, match="--allow-server"):
        ts.load("HTTPS://models.example/v1")


def test_every_address_has_an_opener() -> None:
    assert OPENERS.names()[-1] == "folder or hub id"
    with pytest.raises(ModelError, match="does not exist"):
        open_backend("/no/such/folder")
