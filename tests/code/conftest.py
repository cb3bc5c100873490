"""Fixtures of the structure tests."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def python_megabyte() -> bytes:
    """1 MB of real Python: the standard library, file after file."""
    text = b""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) > 1_000_000:
            break
    return text[:1_000_000]
