"""Where a trace comes from: everything that is needed to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenscope.trace.edits import Edit, from_json


@dataclass(frozen=True, slots=True)
class Origin:
    """Model and tokenizer digests, numerics, sampler, seed, edits, versions.

    ``kernel`` and ``batch`` are recorded because a cached step and a prefill, or two kernels,
    differ in the last bits (about 1e-7 in float32, far more in bfloat16).
    """

    model: str = ""
    model_digest: str = ""
    tokenizer_digest: str = ""
    backend: str = ""
    dtype: str = ""
    device: str = ""
    kernel: str = ""
    batch: tuple[int, ...] = (1,)
    form: str = "plain"
    sampler: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    edits: tuple[Edit, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {
            "model": self.model, "model_digest": self.model_digest,
            "tokenizer_digest": self.tokenizer_digest, "backend": self.backend,
            "dtype": self.dtype, "device": self.device, "kernel": self.kernel,
            "batch": list(self.batch), "form": self.form, "sampler": dict(self.sampler),
            "seed": self.seed, "edits": [e.to_json() for e in self.edits],
            "versions": dict(self.versions),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        """Read back what :meth:`to_json` wrote; keys of a newer version are left out."""
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        known["batch"] = tuple(known.get("batch", (1,)))
        known["edits"] = tuple(from_json(e) for e in known.get("edits", ()))
        return cls(**known)
