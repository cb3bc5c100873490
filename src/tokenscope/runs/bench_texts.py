"""What benchmarks decode after: real library code, and ids that never repeat."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

from tokenscope.decode.engine import Engine
from tokenscope.errors import InputError

# files of Python's own library: on every machine, written by many hands
LIBRARY = (
    "textwrap", "csv", "shlex", "heapq", "configparser", "fractions", "calendar", "zipfile",
    "ipaddress", "difflib", "statistics", "mailbox",
)  # fmt: skip


def library_ids(engine: Engine, count: int, which: int) -> list[int]:
    """``count`` ids of library file number ``which``; once all have had their turn, of what comes
    next in each, so that no two texts are the same."""
    turn = which // len(LIBRARY)
    for n in range(len(LIBRARY)):
        name = LIBRARY[(which + n) % len(LIBRARY)]
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue
        text = Path(found.origin).read_text("utf-8", "replace")[: count * 16 * (turn + 1)]
        found_ids = engine.vocabulary.encode(text).ids[count * turn : count * (turn + 1)]
        ids = [int(i) for i in found_ids]
        if len(ids) == count:
            return ids
    raise InputError("prompt_tokens", f"no file of Python's library has {count} tokens")


def distinct_ids(engine: Engine, count: int, seed: int) -> list[int]:
    """``count`` ordinary ids in random order, none twice: nothing to look up."""
    size = engine.info.vocab or 0
    ordinary = [i for i in range(size) if engine.vocabulary.label(i) is None]
    if len(ordinary) < count:
        raise InputError("prompt_tokens", f"the vocabulary has {len(ordinary)} ordinary tokens")
    return random.Random(seed).sample(ordinary, count)  # noqa: S311 (no secret)
