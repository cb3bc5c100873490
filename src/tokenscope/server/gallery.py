"""Prompts worth trying, from a file that ships beside the models."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

import tokenscope
from tokenscope.server.wire import GalleryItem

FILE = Path(tokenscope.__file__).parent / "models" / "gallery.json"


def read(file: Path = FILE) -> list[GalleryItem]:
    """The gallery; empty where the file is not there."""
    if not file.is_file():
        return []
    return TypeAdapter(list[GalleryItem]).validate_python(json.loads(file.read_text("utf-8")))
