"""The bill of materials: valid by the standard's own schema, and true of the files."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tokenscope.backends.hf.load import BUNDLED
from tokenscope.cli import run


def test_the_bundled_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bom.json"
    assert run(["bom", "--out", str(out)]) == 0
    text = out.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    made = json.loads(text)
    model = next(c for c in made["components"] if c["type"] == "machine-learning-model")
    files = {c["name"]: c["hashes"][0]["content"] for c in model["components"]}
    weights = next(n for n in files if n.endswith(".safetensors"))
    assert files[weights] == hashlib.sha256((BUNDLED / weights).read_bytes()).hexdigest()
    assert model["modelCard"]["modelParameters"]["modelArchitecture"]
    torch = next(c for c in made["components"] if c["name"] == "torch")
    assert torch["version"] == metadata.version("torch")
    assert not any(c["name"] in ("pytest", "captum") for c in made["components"])
    broken = text.replace('"machine-learning-model"', '"machine"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


def test_a_model_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bom", "nowhere/none"]) == 2
    assert "no model at hand" in capsys.readouterr().err
