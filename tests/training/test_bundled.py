"""The published folder: what must be in it, and how big it may be."""

import json
from typing import Any

from training.corpus import read_heldout_names
from training.export import BUNDLED


def test_the_weights_are_small_and_complete() -> None:
    assert (BUNDLED / "model.safetensors").stat().st_size <= 48e6
    for name in ("config.json", "generation_config.json", "tokenizer.json", "README.md"):
        assert (BUNDLED / name).exists()


def test_the_gallery_is_well_formed() -> None:
    entries: list[dict[str, Any]] = json.loads((BUNDLED / "gallery.json").read_text())
    assert len({e["id"] for e in entries}) == len(entries) >= 10
    for entry in entries:
        assert {"id", "title", "why", "kind", "language", "prompt", "settings"} <= entry.keys()
        assert ("suffix" in entry) == (entry["kind"] == "infill")
        assert entry["settings"]["max_new_tokens"] <= 128


def test_the_card_names_the_data() -> None:
    card = (BUNDLED / "README.md").read_text()
    assert "{{" not in card
    for package in {name.partition(":")[0] for name in read_heldout_names()} - {"stdlib"}:
        assert f"| {package} |" in card
