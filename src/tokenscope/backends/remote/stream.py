"""Server-sent events, and lines of JSON, as the objects that they carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenscope.errors import CapacityError, RemoteError


def events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of an event stream; ``[DONE]`` ends it. Raises RemoteError."""
    for line in lines:
        if line.startswith(b"error:"):  # older llama.cpp
            raise failed(_object(line[6:]))
        if not line.startswith(b"data:"):
            continue  # a comment, a name, an empty line
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        yield _good(_object(data))


def documents(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """One object a line (Ollama). Raises RemoteError."""
    for line in lines:
        if line.strip():
            yield _good(_object(line))


def _good(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("error"):
        raise failed(value)
    return value


def failed(value: dict[str, Any]) -> Exception:
    """What a server says in the middle of a stream; its words are not passed on."""
    said = value.get("error", value)
    kind = said.get("type") if isinstance(said, dict) else ""
    if kind == "exceed_context_size_error":
        return CapacityError("the text does not fit the context of the server")
    return RemoteError("it gave up in the middle of its answer; what came is kept")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise RemoteError("an event of its stream is no JSON") from None
    if not isinstance(value, dict):
        raise RemoteError("an event of its stream is no object")
    return value
