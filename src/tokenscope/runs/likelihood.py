"""Edit likelihood: the calibrated probability that a human would change a line.

Features of a line, from the columns, the syntax, and what only a model at hand can tell: what the
best replacement of its least likely token gains, *measured on what follows*. Learnt by
``evidence.learnt`` from labelled examples; where it is not better than surprisal on files that
were held out, it says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope import disk
from tokenscope.code.views import language_of, structure
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.evidence.learnt import Learnt, learn, read_learnt
from tokenscope.evidence.mutants import Example, candidates
from tokenscope.runs.many import Branch, fork_many
from tokenscope.runs.settings import Settings
from tokenscope.runs.windows import score
from tokenscope.trace.columns import Column, ColumnSpec
from tokenscope.trace.record import Trace
from tokenscope.trace.regions import CATEGORY_CODE

F64 = NDArray[np.float64]
FOLLOW = 24  # tokens behind a replaced one on which its gain is measured
KINDS = ("identifier", "operator", "number", "keyword", "constant")
FEATURES = (
    "surprisal_max", "surprisal_second", "surprisal_mean", "surprisal_excess", "entropy_mean",
    "entropy_at", "margin_max", "log_rank_max", "tokens_log", "line_log", "next_line",
    "following", "gain_following", "gain_whole", "alternative_seen", "own_seen_log",
    *(f"is_{k}" for k in KINDS),
)  # fmt: skip
NAME = "edit_likelihood"
SPEC = ColumnSpec(
    NAME, "Edit likelihood", "probability",
    "P(a human would change this line), logistic regression over its signals and the gain of its "
    "best replacement, isotonic calibration",
    "learnt by TokenScope on labelled lines, figures of held-out files beside it", 0.0, 1.0, "low",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Likelihood:
    """``trace`` with the column ``edit_likelihood`` (quality ``estimate``; NaN on lines that hold
    nothing to change); ``lines``: (line from 0, probability), most likely first."""

    trace: Trace
    lines: tuple[tuple[int, float], ...]
    learnt: Learnt

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "lines": [{"line": n + 1, "probability": p} for n, p in self.lines],
            "verdict": self.learnt.verdict, "better": self.learnt.better,
            "auroc": self.learnt.auroc, "ece": self.learnt.ece,
        }  # fmt: skip


def learn_edits(
    engine: Engine, examples: Iterable[Example], made_of: dict[str, Any] | None = None,
    control: Control = QUIET,
) -> Learnt:  # fmt: skip
    """Learn from labelled examples with this model. Raises InputError for too few, Cancelled."""
    rows: list[F64] = []
    labels: list[bool] = []
    files: list[str] = []
    given = list(examples)
    digest = hashlib.sha256()
    for number, one in enumerate(given):
        control.step(number, len(given), "functions")
        digest.update(repr((one.file, one.text, sorted(one.changed))).encode())
        try:
            trace = score(engine, one.text, language="python").result()
            engine.prefixes.clear()
            places, made = features(engine, trace, one.lines)
        except CapacityError:
            continue
        rows += list(made)
        labels += [n in one.changed for n in places]
        files += [one.file] * len(places)
    if not rows:
        raise InputError("examples", "hold no line that could be changed")
    table = np.asarray(rows)
    at = {n: i for i, n in enumerate(FEATURES)}
    rivals = {
        "surprisal, largest of the line": table[:, at["surprisal_max"]],
        "surprisal, mean of the line": table[:, at["surprisal_mean"]],
        "entropy, mean of the line": table[:, at["entropy_mean"]],
        "random": np.random.default_rng(1).random(len(table)),
    }
    told = {**(made_of or {}), "examples": len(given), "digest": digest.hexdigest()}
    info = engine.info
    return learn(
        table, np.asarray(labels), files, FEATURES, rivals, info.name, info.model_digest, told
    )


def likelihood(
    engine: Engine, trace: Trace, learnt: Learnt | None = None, control: Control = QUIET
) -> Likelihood:
    """Every line of a trace. ``learnt``: None for what lies in the cache, or ships, for this model.

    Raises AbilityError where nothing was learnt for it, InputError where it was for another one.
    """
    held = learnt if learnt is not None else known(engine)
    if held.model_digest != engine.info.model_digest or held.features != FEATURES:
        raise InputError("learnt", "belongs to another model or version; learn again")
    control.step(0, 1, "lines")
    text = trace.tokens.data.decode("utf-8", "replace")
    lines = candidates(text) if language_of(trace) == "python" else frozenset[int]()
    if not lines:  # another language, or unfinished: every line with something in it
        lines = frozenset(n for n, x in enumerate(text.splitlines()) if x.strip())
    places, made = features(engine, trace, lines)
    said = held.probability(made) if places else np.zeros(0)
    values = np.full(len(trace), np.nan, dtype=np.float32)
    of = lines_of(trace)
    for n, p in zip(places, said.tolist(), strict=True):
        values[of == n] = p
    column = Column(NAME, values, "estimate", SPEC)
    ranked = sorted(zip(places, said.tolist(), strict=True), key=lambda x: -x[1])
    return Likelihood(replace(trace, columns={**trace.columns, NAME: column}), tuple(ranked), held)


def place(engine: Engine) -> Path:
    """Where what was learnt for a model is kept."""
    return disk.cache_folder() / "likelihood" / f"{engine.info.model_digest[:32]}.json"


def known(engine: Engine) -> Learnt:
    """What was learnt for this model. Raises AbilityError where nothing was."""
    for path in (place(engine), _SHIPPED):
        if path.is_file():
            held = read_learnt(path)
            if held.model_digest == engine.info.model_digest and held.features == FEATURES:
                return held
    raise AbilityError("nothing was learnt for this model yet: run `tokenscope learn-edits`")


_SHIPPED = Path(__file__).parent.parent / "models" / "bundled" / "likelihood.json"


def lines_of(trace: Trace) -> NDArray[np.int64]:
    """int64 (T,): the line (from 0) of the first byte of each token that is no blank; -1: none."""
    data = trace.tokens.data
    ends = np.cumsum(np.frombuffer(data, dtype=np.uint8) == 10)
    made = np.full(len(trace), -1, dtype=np.int64)
    for t in trace.tokens:
        ink = next((n for n in range(t.start, t.end) if not data[n : n + 1].isspace()), None)
        if ink is not None:
            made[t.index] = int(ends[ink])
    return made


def features(engine: Engine, trace: Trace, lines: Iterable[int]) -> tuple[list[int], F64]:
    """(lines that have a measured token, float64 (N, F)); see FEATURES."""
    of, table = lines_of(trace), trace.alternatives
    if table is None:
        raise InputError("trace", "has no alternatives")
    names = ("surprisal", "entropy", "rank", "p_ratio")
    s, e, rank, ratio = (trace.column(n).astype(np.float64) for n in names)
    margin = np.maximum(-np.log(np.maximum(ratio, 1e-30)), 0.0)
    kinds = _kinds(trace)
    found: list[tuple[int, int, int]] = []  # line, its least likely token, the best other id
    seen: list[NDArray[np.int64]] = []
    for line in sorted(lines):
        tokens = np.nonzero((of == line) & np.isfinite(s))[0]
        if not len(tokens):
            continue
        worst = int(tokens[np.argmax(margin[tokens] + 1e-6 * s[tokens])])
        others = [int(i) for i in table.ids[worst] if i >= 0 and i != trace.ids[worst]]
        if others:
            found.append((line, worst, others[0]))
            seen.append(tokens)
    gains = _gains(engine, trace, [(w, a) for _, w, a in found])
    rows = []
    whole = float(np.nanmean(s))
    for (line, worst, other), tokens, (behind, following) in zip(found, seen, gains, strict=True):
        ordered = np.sort(s[tokens])[::-1]
        after = s[(of == line + 1) & np.isfinite(s)]
        row = table.ids[worst].tolist().index(other)
        alone = float(table.logprobs[worst, row]) + s[worst]
        earlier = trace.ids[:worst]
        kind = kinds[worst]
        rows.append([
            ordered[0], ordered[1] if len(ordered) > 1 else 0.0, s[tokens].mean(),
            s[tokens].mean() - whole, e[tokens].mean(), e[worst], margin[worst],
            np.log(np.maximum(rank[tokens], 1.0)).max(), np.log1p(len(tokens)), np.log1p(line),
            after.mean() if len(after) else whole, following, behind, alone + behind,
            float((earlier == other).any()), np.log1p(float((earlier == trace.ids[worst]).sum())),
            *(float(kind == CATEGORY_CODE[k]) for k in KINDS),
        ])  # fmt: skip
    made = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(FEATURES))
    return [line for line, _, _ in found], np.nan_to_num(made)


def _gains(
    engine: Engine, trace: Trace, places: list[tuple[int, int]]
) -> list[tuple[float, float]]:
    """(nats that the next FOLLOW tokens gain by the replacement, their mean surprisal now)."""
    logp = trace.column("logprob").astype(np.float64)
    asked = [
        Branch(trace, at, [other, *trace.ids[at + 1 : at + 1 + FOLLOW].tolist()])
        for at, other in places
    ]
    k = trace.alternatives.k if trace.alternatives is not None else 0
    settings = Settings(max_new_tokens=0, attention="none", alternatives=k)
    made = []
    for (at, _), branch in zip(places, fork_many(engine, asked, settings), strict=True):
        end = min(at + 1 + FOLLOW, len(trace))
        if end <= at + 1:
            made.append((0.0, 0.0))
            continue
        before, now = logp[at + 1 : end], branch.column("logprob")[at + 1 : end]
        made.append((float(np.sum(now - before)), float(-before.mean())))
    return made


def _kinds(trace: Trace) -> NDArray[np.int64]:
    """The category of most bytes of each token."""
    held = structure(trace)
    made = np.zeros(len(trace), dtype=np.int64)
    weight = held.weight
    best = np.zeros(len(trace), dtype=np.int64)
    for cell, (token, category) in enumerate(zip(held.token, held.category, strict=True)):
        if weight[cell] > best[token] and int(category) not in _BLANK:
            best[token], made[token] = weight[cell], int(category)
    return made


_BLANK = (CATEGORY_CODE["whitespace"], CATEGORY_CODE["indentation"])
