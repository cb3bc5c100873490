"""How good a rule pack is on the samples that it ships: recall and false-alarm rate, measured.

The samples were written by who wrote the rules, so this is an upper bound on what to expect of
other code; samples that a rule is known to miss (a command put together one line earlier) are
among them on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenscope.code.languages import LANGUAGES
from tokenscope.code.tree import tree_of
from tokenscope.evidence.bounds import Bound, wilson
from tokenscope.evidence.checks.rules import matches
from tokenscope.evidence.pack import Pack, Rule, Sample

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Measured:
    """``recall``: share of the bad samples that were found; ``false_alarms``: share of the good
    ones in which something was found; both with a 95 % Wilson interval."""

    pack: str
    rule: str
    recall: Bound
    false_alarms: Bound


def measure(packs: Iterable[Pack]) -> list[Measured]:
    """One row per rule, and one per pack (``rule`` "all")."""
    rows: list[Measured] = []
    for pack in packs:
        tried = [(rule, _tried(pack.name, rule)) for rule in pack.rules]
        rows += [_row(pack.name, rule.id, hits) for rule, hits in tried]
        rows.append(_row(pack.name, "all", [h for _, hits in tried for h in hits]))
    return rows


def frame(rows: Sequence[Measured]) -> pd.DataFrame:
    """The rows as a table."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "pack": r.pack, "rule": r.rule, "bad": r.recall.n, "recall": r.recall.value,
                "recall_lower": r.recall.lower, "good": r.false_alarms.n,
                "false_alarms": r.false_alarms.value,
                "false_alarms_upper": r.false_alarms.upper,
            }
            for r in rows
        ]
    )  # fmt: skip


def _tried(pack: str, rule: Rule) -> list[tuple[Sample, bool]]:
    return [(s, hit(pack, rule, s.code.encode(), s.language)) for s in rule.samples]


def hit(pack: str, rule: Rule, data: bytes, language: str) -> bool:
    """Whether a rule finds anything in a piece of code."""
    if language not in rule.queries:
        return False
    tree = tree_of(data, LANGUAGES.get(language))
    return tree is not None and bool(matches(tree, pack, rule, language))


def _row(pack: str, rule: str, hits: Sequence[tuple[Sample, bool]]) -> Measured:
    bad, good = [h for s, h in hits if s.bad], [h for s, h in hits if not s.bad]
    return Measured(pack, rule, wilson(sum(bad), len(bad)), wilson(sum(good), len(good)))
