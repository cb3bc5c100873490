"""Steering vectors: a direction of the residual stream, where it came from, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from tokenscope import disk
from tokenscope.errors import MissingError, ModelError, NotFound
from tokenscope.store.database import default_folder
from tokenscope.trace.columns import F32
from tokenscope.trace.inside import Steer

FORMAT = 1
FOLDER = "vectors"  # of the data folder


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """``values`` float32 (d,), for the stream before ``layer``: mean over the positive prompts less
    mean over the negative ones. ``residual``: the mean norm of the stream there on those prompts.
    ``model_digest``: of the model that it belongs to. ``provenance``: how it was made."""

    layer: int
    values: F32
    residual: float
    model_digest: str
    provenance: Mapping[str, str | int] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over model, layer and values: what an edit names it by."""
        head = json.dumps([FORMAT, self.model_digest, self.layer]).encode()
        return hashlib.sha256(head + self.values.astype("<f4").tobytes()).hexdigest()

    @property
    def norm(self) -> float:
        """Its length; ``norm / residual`` is how large a step of strength 1 is."""
        return float(np.linalg.norm(self.values))

    def steer(self, strength: float = 1.0, at: int = 0, until: int | None = None) -> Steer:
        """The edit that adds it."""
        return Steer(self.digest, strength, at=at, until=until)

    @property
    def name(self) -> str:
        """What its maker called it; "" where it has no name."""
        return str(self.provenance.get("name", ""))

    def save(self, path: Path | None = None) -> Path:
        """Write it as safetensors; without a path to ``vectors/`` of the data folder, where edits
        find it. Raises StoreError."""
        path = path if path is not None else vector_path(self.digest)
        facts = {
            "format": FORMAT, "layer": self.layer, "residual": self.residual,
            "model_digest": self.model_digest, "provenance": dict(self.provenance),
        }  # fmt: skip
        disk.make_folder(path.parent)
        held = {"values": self.values.astype(np.float32)}
        disk.write_whole(path, [save(held, {"vector": json.dumps(facts)})])
        return path


def vector_path(digest: str, folder: Path | None = None) -> Path:
    """Where a vector is kept."""
    home = folder if folder is not None else default_folder()
    return home / FOLDER / f"{digest}.safetensors"


def read_vector(path: Path) -> SteeringVector:
    """Raises MissingError where there is none, ModelError for a file that is damaged."""
    if not path.is_file():
        raise MissingError("the steering vector is not in the data folder: make or copy it there")
    try:
        with safe_open(path, "np") as file:
            facts = json.loads((file.metadata() or {})["vector"])
            values = np.asarray(file.get_tensor("values"), dtype=np.float32)
        made = SteeringVector(
            int(facts["layer"]), values, float(facts["residual"]), str(facts["model_digest"]),
            dict(facts["provenance"]),
        )  # fmt: skip
        good = facts["format"] == FORMAT and values.ndim == 1 and bool(np.isfinite(values).all())
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ModelError(path, f"is no steering vector ({type(error).__name__})") from error
    if not good:
        raise ModelError(path, "is a steering vector of another version, or damaged")
    return made


class Vectors(dict[str, SteeringVector]):
    """Steering vectors by digest: those made since the model was loaded, and those that are kept
    in ``folder`` (None: ``vectors/`` of the data folder), which are read when they are asked for.
    """

    folder: Path | None = None

    def __missing__(self, digest: str) -> SteeringVector:
        """Raises MissingError, ModelError."""
        return read_vector(self.path(digest))

    def path(self, digest: str) -> Path:
        """Where a vector is kept."""
        if self.folder is None:
            return vector_path(digest)
        return self.folder / f"{digest}.safetensors"

    def kept(self) -> list[SteeringVector]:
        """All that are kept, by name; what is damaged or no vector is left out."""
        found = []
        for path in self.path("").parent.glob("*.safetensors"):
            try:
                held = read_vector(path)
            except (MissingError, ModelError):
                continue
            if held.digest == path.stem:  # an edit would find it
                found.append(held)
        return sorted(found, key=lambda v: (v.name, v.digest))

    def remove(self, digest: str) -> None:
        """Forget a vector and take its file away. Raises NotFound where there is none."""
        path = self.path(digest)
        if self.pop(digest, None) is None and not path.is_file():
            raise NotFound("there is no such steering vector")
        if path.is_file():
            disk.remove(path)
