"""What a model will take in memory, part by part, said before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes. ``base``: the process without a model; ``weights``; ``packed``: a second copy of them
    that makes steps faster; ``cache``: keys and values of one sequence; ``work``: what the largest
    pass and loading hold for a moment."""

    base: int
    weights: int
    packed: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        """All of it: the peak that the process will reach."""
        return sum(int(getattr(self, f.name)) for f in fields(self))

    @property
    def model(self) -> int:
        """What the model adds to a process that has loaded others already."""
        return self.total - self.base
