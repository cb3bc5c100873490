"""A probability learnt from labelled rows: logistic regression, isotonic calibration, both
cross-fitted by file; how good it is stands beside it.

Logistic regression with an L2 penalty, by Newton's method (Hastie, Tibshirani, Friedman, "The
Elements of Statistical Learning", 4.4.1). Isotonic regression by pooling adjacent violators (Ayer
et al., Ann. Math. Stat. 26, 1955). ECE: sum over ten bins of equal count, |share - mean| weighted
by rows (Naeini et al., AAAI 2015). AUROC by ranks, AP as the mean precision at the positives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenscope import disk
from tokenscope.errors import InputError

F64 = NDArray[np.float64]
FORMAT = 1
FOLDS = 5
BINS = 10
PENALTY = 3.0
DRAWS = 400  # bootstrap samples of files


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of the reliability diagram: mean of what was said, share of what came, of n rows."""

    said: float
    came: float
    n: int


@dataclass(frozen=True, slots=True)
class Rival:
    """One way of ranking lines. ``gain``: how much higher the AUROC of what was learnt is than
    its, with ``low``..``high``, the 95 % bootstrap interval over files."""

    name: str
    auroc: float
    ap: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Learnt:
    """What was learnt for one model. All figures are of files that were held out.

    ``weights``: one per feature and the constant, for standardised features (``mean``, ``scale``);
    ``knots``: the isotonic map, score to probability. ``made_of``: where the rows came from.
    """

    model: str
    model_digest: str
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    knots: tuple[tuple[float, float], ...]
    rows: int
    positives: int
    files: int
    auroc: float
    ap: float
    ece: float
    bins: tuple[Bin, ...]
    rivals: tuple[Rival, ...]
    made_of: Mapping[str, Any] = field(default_factory=dict)

    @property
    def better(self) -> bool:
        """Whether it ranks held-out lines surely better than surprisal does, and than chance."""
        named = ("surprisal", "random")
        return all(r.low > 0 for r in self.rivals if r.name.startswith(named))

    @property
    def verdict(self) -> str:
        """One sentence for whoever reads the column."""
        best = max((r for r in self.rivals if r.name.startswith("surprisal")),
                   key=lambda r: r.auroc)  # fmt: skip
        how = "better than" if self.better else "NOT surely better than"
        return (
            f"On held-out files it ranks lines {how} surprisal: AUROC {self.auroc:.3f} against "
            f"{best.auroc:.3f} (difference {best.gain:+.3f}, 95 % [{best.low:+.3f}, "
            f"{best.high:+.3f}]); calibration error {self.ece:.3f}; {self.positives} changed of "
            f"{self.rows} lines in {self.files} files."
        )

    def probability(self, rows: F64) -> F64:
        """(N, F) features -> (N,) probabilities; NaN where a feature is."""
        z = (rows - np.asarray(self.mean)) / np.asarray(self.scale)
        return apply(np.asarray(self.knots), z @ np.asarray(self.weights[:-1]) + self.weights[-1])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"format": FORMAT, **asdict(self), "better": self.better, "verdict": self.verdict}

    def save(self, path: Path) -> None:
        """Raises StoreError."""
        disk.make_folder(path.parent)
        disk.write_whole(path, [json.dumps(self.to_json(), allow_nan=False, indent=1).encode()])


def read_learnt(path: Path) -> Learnt:
    """Raises InputError."""
    try:
        held = json.loads(path.read_bytes())
        if held.pop("format") != FORMAT:
            raise InputError("learnt", "was written by another version; learn again")
        known = {k: v for k, v in held.items() if k in Learnt.__dataclass_fields__}
        for name in ("features", "mean", "scale", "weights"):
            known[name] = tuple(known[name])
        known["knots"] = tuple((float(a), float(b)) for a, b in known["knots"])
        known["bins"] = tuple(Bin(**b) for b in known["bins"])
        known["rivals"] = tuple(Rival(**r) for r in known["rivals"])
        return Learnt(**known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("learnt", "is not a file of what was learnt") from error


def learn(
    rows: F64, labels: NDArray[np.bool_], files: Sequence[str], features: Sequence[str],
    rivals: Mapping[str, F64], model: str, digest: str, made_of: Mapping[str, Any],
    seed: int = 0,
) -> Learnt:  # fmt: skip
    """Fit, calibrate and judge. ``rows`` (N, F); ``rivals``: other scores of the same rows.

    Raises InputError where there are too few rows, files, or changed lines.
    """
    names, group = np.unique(np.asarray(files), return_inverse=True)
    y = labels.astype(np.float64)
    if len(names) < 2 * FOLDS or not 20 <= labels.sum() <= len(y) - 20:
        raise InputError("examples", f"too few: needs {2 * FOLDS} files and 20 changed lines")
    order = np.random.default_rng(seed).permutation(len(names))
    fold = (np.argsort(order) % FOLDS)[group]
    mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-9)
    z = (rows - mean) / scale
    scores = np.empty(len(y))
    for k in range(FOLDS):
        scores[fold == k] = _scored(z[fold == k], logistic(z[fold != k], y[fold != k]))
    said = np.empty(len(y))
    for k in range(FOLDS):  # calibrated by the held-out scores of other files than its own
        said[fold == k] = apply(isotonic(scores[fold != k], y[fold != k]), scores[fold == k])
    bins = reliability(said, y)
    told = [_rival(n, v, scores, y, group, seed) for n, v in rivals.items()]
    weights = logistic(z, y)
    return Learnt(
        model, digest, tuple(features), tuple(mean.tolist()), tuple(scale.tolist()),
        tuple(weights.tolist()), tuple((float(a), float(b)) for a, b in isotonic(scores, y)),
        len(y), int(y.sum()), len(names), auroc(scores, y), average_precision(scores, y),
        float(sum(b.n * abs(b.said - b.came) for b in bins) / len(y)), tuple(bins), tuple(told),
        dict(made_of),
    )  # fmt: skip


def logistic(z: F64, y: F64, penalty: float = PENALTY) -> F64:
    """Weights (F + 1,), the last one the constant, which is not penalised."""
    x = np.hstack([z, np.ones((len(z), 1))])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-9
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (y - p) - ridge * w
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + np.diag(ridge), gradient)
        w += step
        if np.abs(step).max() < 1e-8:
            break
    return w


def pooled(scores: F64, y: F64) -> F64:
    """(K, 4): first and last score, value and rows of each block of the best ascending fit; equal
    scores share a block."""
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []
    for s, v in zip(scores[order].tolist(), y[order].tolist(), strict=True):
        blocks.append([s, s, v, 1.0])
        while len(blocks) > 1 and (
            blocks[-2][2] >= blocks[-1][2] or blocks[-2][1] == blocks[-1][0]
        ):
            _, last, v2, n2 = blocks.pop()
            first, _, v1, n1 = blocks[-1]
            blocks[-1] = [first, last, (v1 * n1 + v2 * n2) / (n1 + n2), n1 + n2]
    return np.asarray(blocks, dtype=np.float64)


def isotonic(scores: F64, y: F64) -> F64:
    """(K, 2) knots: the middle of each pooled block, and its value; both ascending."""
    held = pooled(scores, y)
    return np.stack([(held[:, 0] + held[:, 1]) / 2, held[:, 2]], axis=1)


def apply(knots: F64, scores: F64) -> F64:
    """The isotonic map, straight between the middles of its blocks."""
    return np.interp(scores, knots[:, 0], knots[:, 1])


def auroc(scores: F64, y: F64) -> float:
    """P(a changed line stands above an unchanged one), ties half; NaN without both kinds."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    n = y.sum()
    if n in (0, len(y)):
        return float("nan")
    return float((ranks[y > 0].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def average_precision(scores: F64, y: F64) -> float:
    """Mean of the precision at each changed line, from the top; ties in order of the rows."""
    found = y[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(found) / np.arange(1, len(y) + 1))[found > 0].mean())


def reliability(said: F64, y: F64, bins: int = BINS) -> list[Bin]:
    """Bins of equal count."""
    order = np.argsort(said, kind="stable")
    return [
        Bin(float(said[part].mean()), float(y[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]


def _scored(z: F64, w: F64) -> F64:
    made: F64 = z @ w[:-1] + w[-1]
    return made


def _rival(
    name: str, values: F64, scores: F64, y: F64, group: NDArray[np.int64], seed: int
) -> Rival:
    chance = np.random.default_rng(seed)
    rows = [np.nonzero(group == g)[0] for g in range(group.max() + 1)]
    gains = []
    for _ in range(DRAWS):
        take = np.concatenate([rows[g] for g in chance.integers(0, len(rows), len(rows))])
        gains.append(auroc(scores[take], y[take]) - auroc(values[take], y[take]))
    low, high = np.nanquantile(gains, [0.025, 0.975])
    mine = auroc(values, y)
    return Rival(name, mine, average_precision(values, y), auroc(scores, y) - mine, float(low),
                 float(high))  # fmt: skip
