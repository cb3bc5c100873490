"""Standing edits as a run takes them: where each begins, and what they have to know of the run."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokenscope.decode.engine import Engine
from tokenscope.decode.scene import Scene
from tokenscope.errors import InputError
from tokenscope.runs.settings import Settings
from tokenscope.trace.edits import Edit, Standing, read
from tokenscope.trace.origin import Origin, Request
from tokenscope.trace.tokens import Tokens

MOST_FILE = 4 << 20


def going_on(settings: Settings, history: Origin, begin: int, wanted: int) -> Settings:
    """The settings with edits that know where they began: what was in force in the part before a
    branch goes on, anything else begins with the first token that is decoded."""
    if not any(isinstance(e, Standing) and e.anchors for e in settings.edits):
        return settings
    before = history.segments[-1].edits if history.segments else ()
    edits = tuple(_anchored(e, before, begin, begin + wanted) for e in settings.edits)
    return replace(settings, edits=edits)


def _anchored(edit: Edit, before: Sequence[Edit], begin: int, end: int) -> Edit:
    if not isinstance(edit, Standing) or not edit.anchors:
        return edit
    if edit.at == 0:
        same = replace(edit, until=None)
        for held in before:
            if isinstance(held, Standing) and replace(held, at=0, until=None) == same:
                return edit.anchored(held.at, end)
    return edit.anchored(begin, end)


def scene_of(
    engine: Engine, given: Tokens, wanted: int, stops: frozenset[int], form: str, n_prompt: int,
    request: Request, language: str, settings: Settings,
) -> Scene:  # fmt: skip
    """What edits have to know of a run."""
    text, written = b"", 0
    if form == "infill":
        text, written = (request.prompt or "").encode(), n_prompt
    elif form == "chat":
        written = n_prompt
    return Scene(
        engine.backend, engine.info, engine.vocabulary, lambda: engine.pieces, given,
        len(given) + wanted, stops, text, written, language, bool(settings.stop), engine.turn,
        engine.recalled, engine.vectors,
    )  # fmt: skip


def read_edits(path: Path) -> tuple[Standing, ...]:
    """Edits from a TOML file of ``[[edit]]`` tables, each with a ``kind`` and its fields.

    Raises InputError for a file that cannot be read, UnknownName for a kind.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_FILE + 1)
    except OSError as error:
        raise InputError("--edits", f"cannot be read: {error.strerror}") from error
    if len(data) > MOST_FILE:
        raise InputError("--edits", f"holds more than {MOST_FILE} bytes")
    try:
        tables = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("--edits", "is not a TOML file") from error
    held = tables.get("edit")
    if set(tables) != {"edit"} or not isinstance(held, list) or not held:
        raise InputError("--edits", "must hold [[edit]] tables and nothing else")
    return tuple(read(table) for table in held)
