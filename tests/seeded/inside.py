"""A pytest plugin: the tests must see the copy of the sources, or they would prove nothing."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import Phase, settings

import tokenscope

# that an example fails is all that is asked: it need not become the smallest one
settings.register_profile("seeded", phases=(Phase.explicit, Phase.generate))


def pytest_configure() -> None:
    """Stop when another ``tokenscope`` was imported than the one with the defect."""
    settings.load_profile("seeded")
    wanted, found = Path(os.environ["SEEDED_SOURCES"]), Path(tokenscope.__file__)
    if not found.is_relative_to(wanted):
        raise RuntimeError(f"{found} was imported, not the copy in {wanted}")
