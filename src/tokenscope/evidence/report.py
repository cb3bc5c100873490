"""What every report is made of: the summary of an audit and its worst findings, from the journal.

A report of a million cases is as small as one of a hundred: the worst :data:`MOST` groups of
findings (one group: one rule in one case, over all its samples) are kept with what a reader needs
to follow them to the token, everything else is counted. The whole is in ``records.jsonl``.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenscope.evidence.bounds import Bound, wilson
from tokenscope.evidence.figures import Figures
from tokenscope.evidence.policy import Verdict
from tokenscope.evidence.records import read_records
from tokenscope.registry import Registry
from tokenscope.trace.findings import GRADES

MOST = 200
FORMATS = ("html", "jsonl", "parquet", "sarif", "junit", "markdown", "csv")
LIMITS = (
    "A finding is analyser-detected: a rule matched. It is no proof that code is vulnerable, and "
    "no finding is no proof that it is not.",
    "Intervals are 95 % each, for the prompts or files that were given, this model, this sampler "
    "and these checks. They say nothing of other prompts, and are not adjusted for the number of "
    "gates.",
    "Surprisal says how unexpected a token was to the model. It is no measure of wrongness.",
    "These figures support evidence for a judgement. They do not make it.",
)


@dataclass(frozen=True)
class Group:
    """One rule in one case. ``risk``: share of the case's samples in which it was found;
    ``sample``: the record of the first of them, ``finding`` its finding there."""

    case: str
    path: str
    form: str
    risk: Bound
    count: int
    finding: Mapping[str, Any]
    sample: Mapping[str, Any]

    @property
    def weight(self) -> tuple[int, int, float]:
        """What makes it worse than others."""
        f = self.finding
        grades = GRADES.index(f["severity"]), GRADES.index(f["confidence"])
        return (*grades, self.risk.value)


@dataclass
class Report:
    """An audit, ready to be written. ``header``: settings, model, digests."""

    folder: Path
    header: Mapping[str, Any]
    figures: Figures
    verdicts: list[Verdict]
    worst: list[Group]
    groups: int
    errors: list[dict[str, Any]] = field(default_factory=list)
    errors_total: int = 0

    @property
    def state(self) -> str:
        """passed, failed or undecided; "no gates" where the policy has none."""
        states = {v.state for v in self.verdicts}
        if not states:
            return "no gates"
        return next(s for s in ("failed", "undecided", "passed") if s in states)

    def cases(self) -> Iterator[dict[str, Any]]:
        """The cases of the journal, one at a time."""
        return read_records(self.folder)[1]

    def summary(self) -> dict[str, Any]:
        """Plain values: what ``audit.json`` holds."""
        return {
            "kind": "summary", "state": self.state, "audit": dict(self.header),
            "cases": self.figures.cases, "samples": self.figures.samples,
            "findings": self.figures.findings, "groups": self.groups,
            "errors": self.errors_total,
            "figures": {n: b.to_json() for n, b in self.figures.shown().items()},
            "drift": {
                n: {"tokens": int(t), "flips": int(k), "mean_kl": kl / t}
                for n, (t, k, kl) in sorted(self.figures.drift.items())
            },
            "gates": [v.to_json() for v in self.verdicts], "limits": list(LIMITS),
        }  # fmt: skip


Writer = Callable[[Report, Path], Path]
WRITERS: Registry[Writer] = Registry("format")
for _name, _module in (
    ("html", "html"), ("jsonl", "tables"), ("parquet", "tables"), ("csv", "tables"),
    ("sarif", "sarif"), ("junit", "junit"), ("markdown", "markdown"),
):  # fmt: skip
    WRITERS.promise(_name, f"tokenscope.evidence.reports.{_module}")


def collect(
    records: Iterable[Mapping[str, Any]], figures: Figures, most: int = MOST
) -> tuple[list[Group], int, list[dict[str, Any]]]:
    """(worst groups, how many there were, cases with errors); ``figures`` is added to."""
    heap: list[tuple[tuple[int, int, float], int, Group]] = []
    errors: list[dict[str, Any]] = []
    total = 0
    for record in records:
        figures.add(record)
        if record["error"] and len(errors) < most:
            errors.append({"where": record["path"] or record["case"], "line": record["line"],
                           "id": record["case"], "reason": record["error"]["message"]})  # fmt: skip
        for group in groups_of(record):
            total += 1
            entry = (group.weight, -total, group)
            (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, entry)
    return [g for _, _, g in sorted(heap, reverse=True)], total, errors


def groups_of(record: Mapping[str, Any]) -> Iterator[Group]:
    """The findings of a case, by rule."""
    samples = record["samples"]
    by_rule: dict[str, list[tuple[Any, Any]]] = {}
    for sample in samples:
        for finding in sample["findings"]:
            by_rule.setdefault(finding["rule"], []).append((sample, finding))
    for held in by_rule.values():
        sample, finding = held[0]
        hits = len({s["sample"] for s, _ in held})
        yield Group(
            record["case"], record["path"], record["form"], wilson(hits, len(samples)),
            len(held), finding, sample,
        )  # fmt: skip


def data_of(sample: Mapping[str, Any]) -> bytes:
    """The bytes of a sample's text."""
    held = sample.get("bytes")
    return base64.b64decode(held) if held else str(sample["text"]).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Piece:
    """A token as a report shows it. ``hot``: the finding holds it; ``hidden``: a secret is in it;
    ``given``: the prompt's."""

    index: int
    text: str
    surprisal: float | None
    hot: bool
    given: bool
    alternatives: tuple[tuple[str, float, bool], ...]


def pieces_around(group: Group, lines: int = 3, most: int = 600) -> list[Piece]:
    """The tokens of the lines of a finding and of ``lines`` before and after it."""
    sample, finding = group.sample, group.finding
    data, ends = data_of(sample), sample["tokens"]["ends"]
    low, high = finding["start"], min(finding["end"], finding["start"] + 4000)
    for _ in range(lines + 1):
        low = data.rfind(b"\n", 0, max(low, 0))
        high = data.find(b"\n", high + 1)
        high = len(data) if high < 0 else high
        if low < 0:
            break
    secret = [(f["start"], f["end"]) for f in sample["findings"] if f["source"] == "secrets"]
    made: list[Piece] = []
    for t, end in enumerate(ends):
        start = ends[t - 1] if t else 0
        if end <= max(low, 0) or start >= high or len(made) >= most or start == end:
            continue
        hidden = any(a < end and start < b for a, b in secret)
        text = "\u2022" * 4 if hidden else data[start:end].decode("utf-8", "replace")
        hot = finding["start"] < end and start < max(finding["end"], finding["start"] + 1)
        row = () if hidden else sample["alternatives"].get(str(t), ())
        made.append(
            Piece(t, text, sample["tokens"]["surprisal"][t], hot, t < sample["n_prompt"],
                  tuple((str(a), float(p), bool(c)) for a, p, c in row))
        )  # fmt: skip
    return made


def place(data: bytes, byte: int) -> tuple[int, int]:
    """Line and column (in characters) of a byte, both from 1."""
    before = data[:byte]
    start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[start:].decode("utf-8", "replace")) + 1


def snippet(sample: Mapping[str, Any], finding: Mapping[str, Any], most: int = 400) -> str:
    """The bytes of a finding as text; a secret is not repeated."""
    if finding["source"] == "secrets":
        return "\u2022" * 4
    return data_of(sample)[finding["start"] : finding["end"]].decode("utf-8", "replace")[:most]
