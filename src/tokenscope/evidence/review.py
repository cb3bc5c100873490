"""The cases of an audit as a reader goes through them: worst first, and one of them whole."""

from __future__ import annotations

import base64
import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenscope.evidence.bounds import Bound, wilson
from tokenscope.evidence.figures import subjects
from tokenscope.evidence.report import MOST, data_of
from tokenscope.trace.findings import GRADES
from tokenscope.trace.tokens import Tokens

MOST_RULES = 12


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case in one line. ``risk``: the share of its samples with any finding but syntax;
    ``parsed`` of ``judged`` samples parse; ``surprisal``: the largest among what counts, nats;
    ``excerpt``: how its last given line begins."""

    case: str
    path: str
    form: str
    line: int
    samples: int
    findings: int
    rules: tuple[str, ...]
    severity: str
    risk: Bound
    parsed: int
    judged: int
    surprisal: float | None
    error: str
    excerpt: str

    @property
    def weight(self) -> tuple[int, float, float, float]:
        """What makes it worse than others: severity, share with a finding, share that does not
        parse, surprisal. A case with an error stands first."""
        grade = len(GRADES) if self.error else GRADES.index(self.severity) if self.severity else -1
        broken = 1 - self.parsed / self.judged if self.judged else 0.0
        risk = self.risk.value if math.isfinite(self.risk.value) else 0.0
        return grade, risk, broken, self.surprisal or 0.0


class Worst:
    """Keeps the worst cases of a journal that is read once."""

    def __init__(self, most: int = MOST) -> None:
        self.total = 0
        self._most = most
        self._heap: list[tuple[tuple[int, float, float, float], int, CaseRow]] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """One case more."""
        row = row_of(record)
        self.total += 1
        entry = (row.weight, -self.total, row)
        (heapq.heappush if len(self._heap) < self._most else heapq.heappushpop)(self._heap, entry)

    @property
    def rows(self) -> list[CaseRow]:
        """Worst first; of equals the earlier one."""
        return [row for _, _, row in sorted(self._heap, reverse=True)]


def row_of(record: Mapping[str, Any]) -> CaseRow:
    """A case of the journal in one line."""
    samples = record["samples"]
    found = [f for s in samples for f in s["findings"]]
    real = [f for f in found if "any" in subjects(f)]
    hits = sum(any("any" in subjects(f) for f in s["findings"]) for s in samples)
    judged = [s["parses"] for s in samples if s["parses"] is not None]
    known = [v for s in samples for v in s["tokens"]["surprisal"][s["n_prompt"] :] if v is not None]
    first = samples[0] if samples else None
    return CaseRow(
        record["case"], record["path"], record["form"], record["line"], len(samples), len(found),
        tuple(dict.fromkeys(f["rule"] for f in found))[:MOST_RULES],
        max((f["severity"] for f in real), key=GRADES.index, default=""),
        wilson(hits, len(samples)), sum(map(bool, judged)), len(judged),
        max(known) if known else None,
        record["error"]["message"] if record["error"] else "",
        "" if first is None else _excerpt(first),
    )  # fmt: skip


def find(
    records: Iterable[Mapping[str, Any]], case: str, number: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """(the case, its sample ``number``); None where there is none."""
    for record in records:
        if record["case"] == case:
            held = [s for s in record["samples"] if s["sample"] == number]
            return (record, held[0]) if held else None
    return None


def tokens_of(sample: Mapping[str, Any]) -> Tokens:
    """The tokens of a sample, as they were."""
    held = sample["tokens"]
    labels = {int(k): str(v) for k, v in held["labels"].items()}
    offsets = np.asarray([0, *held["ends"]], dtype=np.int64)
    return Tokens(np.asarray(held["ids"], dtype=np.int32), data_of(sample), offsets, labels)


def encoded(sample: Mapping[str, Any]) -> str:
    """The bytes of a sample's text in base64."""
    return base64.b64encode(data_of(sample)).decode()


def _excerpt(sample: Mapping[str, Any], most: int = 80) -> str:
    """The last line with something in it of what was given, or the first of code."""
    ends, data, n = sample["tokens"]["ends"], data_of(sample), sample["n_prompt"]
    given = data[: ends[n - 1]] if n else data[:400]
    lines = [x.strip() for x in given.decode("utf-8", "replace").splitlines() if x.strip()]
    return (lines[-1] if n else lines[0])[:most] if lines else ""
