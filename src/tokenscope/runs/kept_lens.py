"""Where a model's tuned lens is kept, and the one that is there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from weakref import WeakKeyDictionary

from tokenscope.backends.hf.internals import Internals
from tokenscope.decode.engine import Engine
from tokenscope.errors import ModelError
from tokenscope.explain.tuned_lens import TunedLens, read_lens
from tokenscope.store.database import default_folder

_KEPT: WeakKeyDictionary[Engine, tuple[Path, int, TunedLens]] = WeakKeyDictionary()


def lens_path(engine: Engine, folder: Path | None = None) -> Path:
    """Where a tuned lens of this model is kept: ``lenses/`` of the data folder, by its digest."""
    digest = hashlib.sha256(engine.info.model_digest.encode()).hexdigest()[:32]
    return (folder if folder is not None else default_folder()) / "lenses" / f"{digest}.safetensors"


def kept_lens(engine: Engine, internals: Internals, folder: Path | None = None) -> TunedLens | None:
    """The tuned lens of this model, or None. Raises ModelError for a damaged file."""
    path = lens_path(engine, folder)
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None
    known = _KEPT.get(engine)
    if known is None or known[:2] != (path, changed):
        made = read_lens(path, internals, engine.info.model_digest)
        known = (path, changed, made)
        _KEPT[engine] = known
    return known[2]


def usable_lens(engine: Engine, internals: Internals) -> TunedLens | None:
    """As :func:`kept_lens`; a file that cannot be read counts as none."""
    try:
        return kept_lens(engine, internals)
    except ModelError:
        return None
