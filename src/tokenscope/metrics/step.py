"""Signals of one position, from the full distribution before any sampler touches it.

p = softmax(z) of float32 logits z, natural logs (nats). A metric is one function over a
:class:`Distribution`; to add one: write it, register it, give it a test and a row in the docs.
Where only the top of a distribution is known, its form in ``metrics.top`` stands in, if it has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from tokenscope.registry import Registry
from tokenscope.trace.columns import COLUMNS, ColumnSpec

# Scores reduced at a time: these, and what is made of them, then stay in the processor's cache.
BLOCK_VALUES = 1 << 17
LEAST_ROWS = 4  # of fewer the calls would cost more than the numbers

Metric = Callable[["Distribution"], torch.Tensor]
METRICS: Registry[Metric] = Registry("metric")


class Distribution:
    """n distributions over V tokens and the token that came: what metrics are computed from.

    ``logits`` float32 (n, V); ``targets`` int64 (n,); ``k``: how many of the most likely tokens
    will be asked for. Intermediate results are shared; a metric that needs all of ``logp`` or
    ``p`` makes it, those that ship do not: they take the fewest passes over (n, V) that we know.
    """

    def __init__(self, logits: torch.Tensor, targets: torch.Tensor, k: int = 1) -> None:
        self.logits = logits
        self.targets = targets
        self.k = k

    @cached_property
    def logp(self) -> torch.Tensor:
        """float32 (n, V) log softmax."""
        return torch.log_softmax(self.logits, dim=-1)

    @cached_property
    def p(self) -> torch.Tensor:
        """float32 (n, V) probabilities."""
        return self.logp.exp()

    @cached_property
    def _reduced(self) -> tuple[torch.Tensor, ...]:
        """What needs passes over (n, V), a few rows at a time: these stay in the cache meanwhile.

        Logits and ids (n, more) of the most likely tokens; (n,) each, with y = z - max z:
        ln sum e^y, the mean of y, and its variance, under p.
        """
        size = self.logits.shape[1]
        more = min(max(self.k + 1, 3), size)  # one more shows whether a tie is cut in two
        rows = max(LEAST_ROWS, BLOCK_VALUES // size)
        found = [_reduced(z, more) for z in self.logits.split(rows)]
        return found[0] if len(found) == 1 else tuple(map(torch.cat, zip(*found, strict=True)))

    @cached_property
    def top(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and ids (n, max(k, 2) or V) of the most likely tokens; of equals, smaller ids."""
        kept = min(max(self.k, 2), self.logits.shape[1])
        return self._reduced[0][:, :kept], self._reduced[1][:, :kept]

    @cached_property
    def target_logit(self) -> torch.Tensor:
        """float32 (n, 1)."""
        return self.logits.gather(1, self.targets[:, None])

    @cached_property
    def target_logp(self) -> torch.Tensor:
        """float32 (n,) logprob of the token that came."""
        return (self.target_logit[:, 0] - self.top[0][:, 0]) - self._reduced[2]

    @cached_property
    def top_logp(self) -> torch.Tensor:
        """float32 (n, k or more) logprobs of the most likely tokens."""
        return (self.top[0] - self.top[0][:, :1]) - self._reduced[2][:, None]

    @cached_property
    def entropy(self) -> torch.Tensor:
        """float32 (n,) entropy in nats: -sum p ln p = ln sum e^y - E[y]."""
        return self._reduced[2] - self._reduced[3]

    @property
    def varentropy(self) -> torch.Tensor:
        """float32 (n,): the variance of ln p, which is that of y."""
        return self._reduced[4]

    @cached_property
    def before(self) -> torch.Tensor:
        """float32 (n,) how many tokens stand before the one that came: of equals, smaller ids."""
        likely, came = self.top[1].tolist(), self.targets.tolist()
        out = [row.index(t) if t in row else -1 for row, t in zip(likely, came, strict=True)]
        rest = [n for n, place in enumerate(out) if place < 0]  # few: most are among the top
        if rest and self.logits.device.type == "cpu":
            z, mine = self.logits.numpy(), self.target_logit[:, 0].numpy()
            for n in rest:  # numpy counts in a fifth of the time that torch takes
                held, logit, target = z[n], mine[n], came[n]
                out[n] = np.count_nonzero(held > logit) + np.count_nonzero(held[:target] == logit)
        elif rest:
            at = torch.tensor(rest, device=self.logits.device)
            block, logits = self.logits[at], self.target_logit[at]
            smaller = torch.arange(block.shape[1], device=block.device) < self.targets[at, None]
            counts = (block > logits).sum(1) + ((block == logits) & smaller).sum(1)
            for n, count in zip(rest, counts.tolist(), strict=True):
                out[n] = count
        return torch.tensor(out, dtype=torch.float32, device=self.logits.device)


def _top(z: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and ids (n, count) of the largest of each row; of equals, the smaller ids."""
    values, ids = _largest(z, count)
    tied = values[:, 1:] == values[:, :-1]
    if bool(tied.any()):  # rare in float32, common in 16 bits
        for row in tied.any(dim=1).nonzero()[:, 0].tolist():
            at = (z[row] >= values[row, -1]).nonzero()[:, 0]  # ascending ids
            order = z[row, at].sort(descending=True, stable=True).indices
            ids[row] = at[order[:count]]
    return values, ids


def _reduced(z: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    values, ids = _top(z, count)
    y = z - values[:, :1]
    weights = y.exp()  # at most 1 each, and 1 at the most likely: the sum is in range
    total = weights.sum(dim=-1)
    mean = torch.linalg.vecdot(weights, y) / total
    if not math.isfinite(float(mean.sum())):  # a logit of -inf: its p is 0, 0 * -inf is not
        y = y.clamp_(min=-1e4)
        mean = torch.linalg.vecdot(weights, y) / total
    # E[y^2] - E[y]^2 cancels badly; the centred form does not
    variance = torch.linalg.vecdot(weights, y.sub_(mean[:, None]).square_()) / total
    return values, ids, total.log(), mean, variance


GROUP = 64


def _largest(z: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``topk`` of (n, V), by the largest of groups first: a third of its time on many or long rows.

    The k largest lie in the k groups whose own largest are the largest, and what is left over. A
    group is every ``groups``-th value, so that the largest of all groups are found side by side.
    """
    n, size = z.shape
    groups = size // GROUP
    if groups < 4 * k or n * size <= 1 << 15:
        return z.topk(k, dim=1)
    cut = groups * GROUP
    best = z[:, :cut].view(n, GROUP, groups).amax(dim=1).topk(k, dim=1, sorted=False).indices
    at = (best[:, :, None] + torch.arange(0, cut, groups, device=z.device)).view(n, -1)
    if cut < size:
        rest = torch.arange(cut, size, device=z.device).expand(n, -1)
        at = torch.cat([at, rest], dim=1)
    values, where = z.gather(1, at).topk(k, dim=1)
    return values, at.gather(1, where)


def metric(spec: ColumnSpec) -> Callable[[Metric], Metric]:
    """Register a metric and its column's header under one name."""

    def add(function: Metric) -> Metric:
        COLUMNS.add(spec.name, spec)
        return METRICS.add(spec.name, function)

    return add


@metric(ColumnSpec("logprob", "Log-probability", "nats", "ln p(x_t | x_<t)", "definition",
                   lo=-12.0, hi=0.0, better="high"))  # fmt: skip
def logprob(d: Distribution) -> torch.Tensor:
    """ln p(x_t | x_<t)."""
    return d.target_logp


@metric(ColumnSpec("surprisal", "Surprisal", "nats", "s = -ln p(x_t | x_<t)", "Shannon 1948",
                   lo=0.0, hi=6.0, better="low"))  # fmt: skip
def surprisal(d: Distribution) -> torch.Tensor:
    """-ln p(x_t | x_<t) (Shannon 1948)."""
    return -d.target_logp


@metric(ColumnSpec("probability", "Probability", "", "p(x_t | x_<t)", "definition",
                   lo=0.0, hi=1.0, better="high"))  # fmt: skip
def probability(d: Distribution) -> torch.Tensor:
    """p(x_t | x_<t)."""
    return d.target_logp.exp()


@metric(ColumnSpec("rank", "Rank", "", "1 + |{v : p_v > p_x}|", "Gehrmann 2019 (GLTR)",
                   lo=1.0, hi=100.0, better="low", scale="log"))  # fmt: skip
def rank(d: Distribution) -> torch.Tensor:
    """1 + the number of tokens that are more likely (Gehrmann 2019); of equals, smaller ids first.

    So a token's rank is its place among the alternatives, also where 16-bit logits tie.
    """
    return 1.0 + d.before


@metric(ColumnSpec("entropy", "Entropy", "nats", "H = -sum p ln p", "Shannon 1948",
                   lo=0.0, hi=5.0, better="low"))  # fmt: skip
def entropy(d: Distribution) -> torch.Tensor:
    """-sum p ln p (Shannon 1948)."""
    return d.entropy


@metric(ColumnSpec("varentropy", "Varentropy", "nats^2", "sum p (ln p + H)^2",
                   "Kontoyiannis & Verdu 2014", lo=0.0, hi=8.0, better="low"))  # fmt: skip
def varentropy(d: Distribution) -> torch.Tensor:
    """sum p (ln p + H)^2 (Kontoyiannis & Verdu 2014)."""
    return d.varentropy


@metric(ColumnSpec("margin", "Margin", "", "p(1) - p(2)", "Scheffer 2001",
                   lo=0.0, hi=1.0, better="high"))  # fmt: skip
def margin(d: Distribution) -> torch.Tensor:
    """p of the most likely token minus p of the second (Scheffer 2001)."""
    top = d.top_logp[:, :2].exp()
    return top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]


@metric(ColumnSpec("p_ratio", "p / p(top)", "", "p(x_t) / p(1)", "Gehrmann 2019 (GLTR)",
                   lo=0.0, hi=1.0, better="high"))  # fmt: skip
def p_ratio(d: Distribution) -> torch.Tensor:
    """p of the token over p of the most likely one ("Frac(p)", Gehrmann 2019, GLTR)."""
    return (d.target_logit[:, 0] - d.top[0][:, 0]).exp()
