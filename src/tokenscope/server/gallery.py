"""Prompts worth trying, from a file that ships with the bundled model."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

import tokenscope
from tokenscope.server.wire import GalleryItem

FILE = Path(tokenscope.__file__).parent / "models" / "bundled" / "gallery.json"


def read(file: Path = FILE) -> list[GalleryItem]:
    """The gallery; empty where the file is not there."""
    if not file.is_file():
        return []
    items = [
        {
            **{k: v for k, v in item.items() if k != "settings"},
            "suffix": item.get("suffix"),
            "max_new_tokens": item.get("settings", {}).get("max_new_tokens", 64),
        }
        for item in json.loads(file.read_text("utf-8"))
    ]
    return TypeAdapter(list[GalleryItem]).validate_python(items)
