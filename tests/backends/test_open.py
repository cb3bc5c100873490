"""An address goes to the backend that takes it, and what cannot be opened is refused plainly."""

from __future__ import annotations

import pytest

import tokenscope as ts
from tokenscope.backends.open import OPENERS, open_backend
from tokenscope.errors import AbilityError, ModelError


@pytest.mark.parametrize(
    ("address", "says"),
    [("http://127.0.0.1:8080/v1", "folder or hub id"),
     ("HTTPS://models.example/v1", "folder or hub id")],
)  # fmt: skip
def test_what_cannot_be_opened_yet_says_what_to_do(address: str, says: str) -> None:
    with pytest.raises(AbilityError, match=says):
        ts.load(address)


def test_every_address_has_an_opener() -> None:
    assert OPENERS.names()[-1] == "folder or hub id"
    with pytest.raises(ModelError, match="does not exist"):
        open_backend("/no/such/folder")
