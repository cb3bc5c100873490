"""Where a trace comes from: everything that is needed to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tokenscope.trace.edits import Edit, from_json


@dataclass(frozen=True, slots=True)
class Segment:
    """How the tokens from index ``start`` on were made, up to the next segment.

    ``sampler``: its settings by name; ``edits``: the standing ones. Tokens before the first
    segment were given.
    """

    start: int
    sampler: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    edits: tuple[Edit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {
            "start": self.start, "sampler": dict(self.sampler), "seed": self.seed,
            "edits": [e.to_json() for e in self.edits],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Segment:
        """Read back what :meth:`to_json` wrote. Raises KeyError for a missing field."""
        return cls(
            int(data["start"]), dict(data["sampler"]), int(data["seed"]),
            tuple(from_json(e) for e in data["edits"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, before it became tokens.

    ``prompt`` (with ``suffix``: an infill), or ``messages``; ``template_digest`` of the chat
    template that rendered them; ``start_token``: the literal that was put first ("" for none).
    """

    prompt: str | None = None
    suffix: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    template_digest: str = ""
    start_token: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {
            "prompt": self.prompt, "suffix": self.suffix,
            "messages": None if self.messages is None else [dict(m) for m in self.messages],
            "template_digest": self.template_digest, "start_token": self.start_token,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """Read back what :meth:`to_json` wrote; keys of a newer version are left out."""
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        if known.get("messages") is not None:
            known["messages"] = tuple(dict(m) for m in known["messages"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Origin:
    """Model and tokenizer digests, numerics, what was asked, segments, edits, versions.

    ``kernel`` and ``batch`` are recorded because a cached step and a prefill, or two kernels,
    differ in the last bits (about 1e-7 in float32, far more in 16 bits: ``errors`` holds, column
    by column, how far a 16-bit model moved on a probe text at load). ``sampler`` and ``seed`` are
    those of the last segment. ``edits``: what was put in at a position (Force).
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
    segments: tuple[Segment, ...] = ()
    request: Request = field(default_factory=Request)
    errors: Mapping[str, float] = field(default_factory=dict)
    threads: int = 0

    def segment(self, t: int) -> Segment | None:
        """How token ``t`` was made; None for a token that was given."""
        for edit in self.edits:
            at, ids = getattr(edit, "at", None), getattr(edit, "ids", ())
            if at is not None and at <= t < at + len(ids):
                return None
        held = [s for s in self.segments if s.start <= t]
        return held[-1] if held else None

    def cut(self, end: int) -> Origin:
        """The part of the history that made the tokens before ``end``."""
        kept = (e.before(end) for e in self.edits)
        return replace(
            self, edits=tuple(e for e in kept if e is not None),
            segments=tuple(s for s in self.segments if s.start < end),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {
            "model": self.model, "model_digest": self.model_digest,
            "tokenizer_digest": self.tokenizer_digest, "backend": self.backend,
            "dtype": self.dtype, "device": self.device, "kernel": self.kernel,
            "batch": list(self.batch), "form": self.form, "sampler": dict(self.sampler),
            "seed": self.seed, "edits": [e.to_json() for e in self.edits],
            "versions": dict(self.versions), "segments": [s.to_json() for s in self.segments],
            "request": self.request.to_json(), "errors": dict(self.errors),
            "threads": self.threads,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        """Read back what :meth:`to_json` wrote; keys of a newer version are left out."""
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        known["batch"] = tuple(known.get("batch", (1,)))
        known["edits"] = tuple(from_json(e) for e in known.get("edits", ()))
        segments: Sequence[Mapping[str, Any]] = known.get("segments", ())
        known["segments"] = tuple(Segment.from_json(s) for s in segments)
        known["request"] = Request.from_json(known.get("request", {}))
        return cls(**known)
