"""Figures of an audit, each a Bound, from its cases one at a time.

    parse_rate                     share of samples that parse, or can go on to
    SUBJECT.risk                   share of samples with a finding of SUBJECT
    SUBJECT.count                  how many findings of SUBJECT there are (no estimate)
    SUBJECT.mass                   the largest risk mass of a line with a finding of SUBJECT, as
                                   [lower, upper] (policy with [risk]); none found: what no finding
                                   in so many samples leaves room for
    surprisal.token.p99            a quantile over generated tokens (all tokens of given code);
    surprisal.statement.p99        or over statements, of their mean; likewise .max and .mean
    error_rate                     share of cases that could not be done
    drift.kl.max, .mean, .p99      against a baseline, nats, see ``runs.drift``
    drift.flips                    share of tokens whose greedy choice is another one

SUBJECT: ``CWE-78``, a rule (``bandit/B602``), a check (``bandit``), ``high`` (severity), ``any``
(syntax findings do not count into ``any``: ``parse_rate`` has them).
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tokenscope.errors import InputError, UnknownName
from tokenscope.evidence.bounds import Bound, exact, quantile, wilson
from tokenscope.evidence.check import CHECKS
from tokenscope.trace.findings import GRADES

KNOWN = ("parse_rate", "error_rate", "SUBJECT.risk", "SUBJECT.count", "SUBJECT.mass",
         "surprisal.token.p99", "surprisal.statement.p99", "drift.kl.max",
         "drift.flips")  # fmt: skip
_SPREAD = re.compile(
    r"\A(surprisal\.(?:token|statement)|drift\.kl)\.(p\d{1,2}(?:\.\d+)?|max|mean)\Z"
)


class Figures:
    """Adds cases up; memory: a float per token and statement, a count per subject."""

    def __init__(self) -> None:
        self.cases = self.errors = self.samples = self.judged = self.parsed = 0
        self.refused = 0  # lines that are no case: they count as errors
        self.findings = 0
        self.hits: Counter[str] = Counter()
        self.count: Counter[str] = Counter()
        self._values = {name: array("f") for name in ("surprisal.token", "surprisal.statement",
                                                      "drift.kl")}  # fmt: skip
        self._mass: dict[str, list[float]] = {}  # subject -> largest lower and upper, how many
        self._flips = 0
        self.drift: dict[str, list[float]] = {}  # category -> tokens, flips, sum of KL
        self._drifted = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a case of the journal."""
        self.cases += 1
        if record.get("error"):
            self.errors += 1
        for sample in record["samples"]:
            self.samples += 1
            if sample["parses"] is not None:
                self.judged += 1
                self.parsed += bool(sample["parses"])
            self.findings += len(sample["findings"])
            found = [subjects(f) for f in sample["findings"]]
            self.count.update(s for names in found for s in names)
            self.hits.update({s for names in found for s in names})
            self._weigh(sample)
            first = sample["n_prompt"]
            surprisal = sample["tokens"]["surprisal"][first:]
            self._values["surprisal.token"].extend(v for v in surprisal if v is not None)
            self._values["surprisal.statement"].extend(sample["statements"])
            if (drift := sample.get("drift")) is not None:
                self._drifted = True
                self._values["drift.kl"].extend(drift["kl"])
                self._flips += sum(drift["flips"])
                for name, kl, flip in zip(
                    drift["categories"], drift["kl"], drift["flips"], strict=True
                ):
                    row = self.drift.setdefault(name, [0, 0, 0.0])
                    row[0] += 1
                    row[1] += flip
                    row[2] += kl

    def _weigh(self, sample: Mapping[str, Any]) -> None:
        """Add the risk masses of a sample. One that could not be measured may be anything."""
        unknown = {
            n[8:].partition(":")[0] for n in sample.get("notes", ()) if n.startswith("risk of ")
        }
        spans = [(sample["findings"][n], r["lower"], r["upper"])
                 for r in sample.get("risks", ()) for n in r["findings"]]  # fmt: skip
        spans += [(f, 0.0, 1.0) for f in sample["findings"] if f["rule"] in unknown]
        for finding, lower, upper in spans:
            for subject in subjects(finding):
                held = self._mass.setdefault(subject, [0.0, 0.0, 0])
                held[:] = max(held[0], lower), max(held[1], upper), held[2] + 1

    def _largest(self, subject: str) -> Bound:
        if subject not in self._mass:
            upper = wilson(0, self.samples).upper
            return Bound(0.0, 0.0, upper, self.samples, "no finding, Wilson 95 %")
        lower, upper, n = self._mass[subject]
        return Bound((lower + upper) / 2, lower, upper, int(n), "largest risk mass")

    @classmethod
    def check(cls, names: Iterable[str], drift: bool = False, risk: bool = True) -> None:
        """Whether each is a figure that there can be, before hours are spent on it; ``drift``: a
        baseline is there; ``risk``: masses are measured. A subject that nothing can be found of
        would pass every gate.

        Raises UnknownName, InputError.
        """
        empty = cls()
        empty._drifted = drift
        for name in names:
            empty.figure(name)
            subject, _, what = name.rpartition(".")
            if what == "mass" and not risk:
                raise InputError(f"policy: gate {name[:80]}", "needs a [risk] table")
            if what in ("risk", "count", "mass") and not _possible(subject):
                raise UnknownName("figure: subject", subject, (*GRADES, *CHECKS.names(), "any",
                                  "CWE-78", "bandit/B602"))  # fmt: skip

    def figure(self, name: str) -> Bound:
        """The bound of a name. Raises UnknownName."""
        if name == "parse_rate":
            return wilson(self.parsed, self.judged)
        if name == "error_rate":
            return wilson(self.errors + self.refused, self.cases + self.refused)
        if name == "drift.flips" and self._drifted:
            return wilson(self._flips, len(self._values["drift.kl"]))
        spread = _SPREAD.match(name)
        if spread and (spread.group(1) != "drift.kl" or self._drifted):
            return _spread(np.asarray(self._values[spread.group(1)]), spread.group(2))
        subject, _, what = name.rpartition(".")
        if subject and what == "risk":
            return wilson(self.hits[subject], self.samples)
        if subject and what == "mass":
            return self._largest(subject)
        if subject and what == "count":
            return exact(self.count[subject], self.samples, "exact count")
        raise UnknownName("figure", name, KNOWN)

    def shown(self) -> dict[str, Bound]:
        """What every report shows, gates or not: worst subjects first."""
        names = ["parse_rate", "any.risk", *(f"{g}.risk" for g in reversed(GRADES))]
        weak = sorted((s for s in self.hits if s.startswith("CWE-")), key=lambda s: -self.hits[s])
        names += [f"{s}.risk" for s in weak]
        names += ["surprisal.token.p50", "surprisal.token.p99", "surprisal.statement.p99",
                  "error_rate"]  # fmt: skip
        if self._drifted:
            names += ["drift.kl.mean", "drift.kl.p99", "drift.kl.max", "drift.flips"]
        return {n: self.figure(n) for n in names}


def _possible(subject: str) -> bool:
    known = subject in GRADES or subject in CHECKS or subject == "any"
    return known or bool(re.fullmatch(r"CWE-\d{1,5}|[^/\s]+/\S+", subject))


def subjects(finding: Mapping[str, Any]) -> tuple[str, ...]:
    """All that a finding counts for."""
    rule, source = str(finding["rule"]), str(finding["source"])
    if source == "syntax":
        return (rule, source)
    cwe = (f"CWE-{finding['cwe']}",) if finding["cwe"] else ()
    return (rule, source, *cwe, str(finding["severity"]), "any")


def _spread(values: np.ndarray[Any, Any], what: str) -> Bound:
    if what == "max":
        return exact(float(values.max()) if len(values) else float("nan"), len(values),
                     "exact maximum of what was measured")  # fmt: skip
    if what == "mean":
        return _mean(values)
    return quantile(values.astype(np.float64), float(what[1:]) / 100)


def _mean(values: np.ndarray[Any, Any]) -> Bound:
    """The mean with a normal 95 % interval of n independent values; none below two."""
    n = len(values)
    if n < 2:
        return Bound(float(values.mean()) if n else float("nan"), -np.inf, np.inf, n, "normal 95 %")
    mean = float(values.mean(dtype=np.float64))
    half = 1.959963984540054 * float(values.std(ddof=1, dtype=np.float64)) / n**0.5
    return Bound(mean, mean - half, mean + half, n, "normal 95 %")


def all_figures(records: Iterable[Mapping[str, Any]]) -> Figures:
    """The figures of cases read from a journal."""
    figures = Figures()
    for record in records:
        figures.add(record)
    return figures
