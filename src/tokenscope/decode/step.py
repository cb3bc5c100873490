"""What the engine yields: some consecutive tokens with everything measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenscope.decode.changed import Row
from tokenscope.trace.alternatives import Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import F32, Quality
from tokenscope.trace.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Step:
    """n tokens from index ``start`` on: a chunk of the prompt, or one decoded token.

    ``columns``: float32 (n,) each; ``quality`` of those that are not ``exact``. ``alternatives``:
    n rows. ``attention``: rows of (some of) these tokens. ``prompt``: these tokens were given, not
    decoded. ``progress``: prompt tokens (done, total) while the prompt is read. ``changed``: the
    distributions that these tokens are of, where they were asked for (``Plan.likeliest``).
    """

    start: int
    tokens: Tokens
    columns: Mapping[str, F32] = field(default_factory=dict)
    alternatives: Alternatives | None = None
    attention: Attention | None = None
    prompt: bool = False
    progress: tuple[int, int] | None = None
    quality: Mapping[str, Quality] = field(default_factory=dict)
    changed: tuple[Row, ...] = ()

    @property
    def end(self) -> int:
        """Index after the last token."""
        return self.start + len(self.tokens)
