"""Infill marks by model family: which special tokens say prefix, suffix and middle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InfillMarks:
    """Ids of the three marks (order: prefix text, suffix text, then the model writes)."""

    prefix: int
    suffix: int
    middle: int
    names: tuple[str, str, str]


# (prefix, suffix, middle): StarCoder; bundled, Qwen-Coder, CodeGemma; SantaCoder; CodeLlama;
# DeepSeek-Coder (its "hole" stands where the suffix begins, its "end" where the middle does).
CONVENTIONS: tuple[tuple[str, str, str], ...] = (
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
)
# Generation after an infill also ends at these, where the vocabulary has them.
STOPS: tuple[str, ...] = (
    "<|endoftext|>", "<EOT>", "\u2581<EOT>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
    "<file_sep>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip


def find_marks(token_to_id: Callable[[str], int | None]) -> InfillMarks | None:
    """The marks of the first convention that the vocabulary holds in full, else None."""
    for names in CONVENTIONS:
        ids = [token_to_id(name) for name in names]
        if all(i is not None for i in ids):
            p, s, m = (int(i) for i in ids if i is not None)
            return InfillMarks(p, s, m, names)
    return None


def find_stops(token_to_id: Callable[[str], int | None]) -> frozenset[int]:
    """Ids at which an infill ends."""
    return frozenset(i for i in (token_to_id(name) for name in STOPS) if i is not None)
