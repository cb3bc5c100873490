"""Signals of one position, from the full distribution before any sampler touches it.

p = softmax(z) of float32 logits z, natural logs (nats). A metric is one function over a
:class:`Distribution`; to add one: write it, register it, give it a test and a row in the docs.
Where only the top of a distribution is known, its form in ``metrics.top`` stands in, if it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch

from tokenscope.registry import Registry
from tokenscope.trace.columns import COLUMNS, ColumnSpec

Metric = Callable[["Distribution"], torch.Tensor]
METRICS: Registry[Metric] = Registry("metric")


class Distribution:
    """n distributions over V tokens and the token that came: what metrics are computed from.

    ``logits`` float32 (n, V); ``targets`` int64 (n,). Intermediate results are shared.
    """

    def __init__(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self.logits = logits
        self.targets = targets

    @cached_property
    def logp(self) -> torch.Tensor:
        """float32 (n, V) log softmax."""
        return torch.log_softmax(self.logits, dim=-1)

    @cached_property
    def p(self) -> torch.Tensor:
        """float32 (n, V) probabilities."""
        return self.logp.exp()

    @cached_property
    def target_logp(self) -> torch.Tensor:
        """float32 (n,) logprob of the token that came."""
        return self.logp.gather(1, self.targets[:, None])[:, 0]

    @cached_property
    def top2(self) -> torch.Tensor:
        """float32 (n, 2) the two largest logprobs."""
        return self.logp.topk(min(2, self.logp.shape[1]), dim=1).values

    @cached_property
    def greater(self) -> torch.Tensor:
        """float32 (n,) how many tokens stand before the one that came: of equals, smaller ids."""
        mine = self.logits.gather(1, self.targets[:, None])
        before = (self.logits > mine).sum(dim=-1)
        equal = (self.logits == mine).sum(dim=-1)
        for row in (equal > 1).nonzero()[:, 0].tolist():  # rare in float32, common in 16 bits
            start = self.logits[row, : int(self.targets[row])]
            before[row] += (start == mine[row]).sum()
        return before.to(torch.float32)

    @cached_property
    def weighted(self) -> torch.Tensor:
        """float32 (n, V) p ln p, 0 where p is 0."""
        product = self.p * self.logp
        return product.nan_to_num_(nan=0.0)

    @cached_property
    def entropy(self) -> torch.Tensor:
        """float32 (n,) entropy in nats."""
        return -self.weighted.sum(dim=-1)


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
    return 1.0 + d.greater


@metric(ColumnSpec("entropy", "Entropy", "nats", "H = -sum p ln p", "Shannon 1948",
                   lo=0.0, hi=5.0, better="low"))  # fmt: skip
def entropy(d: Distribution) -> torch.Tensor:
    """-sum p ln p (Shannon 1948)."""
    return d.entropy


@metric(ColumnSpec("varentropy", "Varentropy", "nats^2", "sum p (ln p + H)^2",
                   "Kontoyiannis & Verdu 2014", lo=0.0, hi=8.0, better="low"))  # fmt: skip
def varentropy(d: Distribution) -> torch.Tensor:
    """sum p (ln p + H)^2 (Kontoyiannis & Verdu 2014)."""
    # Var = E[(ln p)^2] - H^2 cancels badly; the centred form does not.
    centred = d.logp + d.entropy[:, None]
    return (d.p * centred.square()).nan_to_num_(nan=0.0).sum(dim=-1)


@metric(ColumnSpec("margin", "Margin", "", "p(1) - p(2)", "Scheffer 2001",
                   lo=0.0, hi=1.0, better="high"))  # fmt: skip
def margin(d: Distribution) -> torch.Tensor:
    """p of the most likely token minus p of the second (Scheffer 2001)."""
    top = d.top2.exp()
    return top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]


@metric(ColumnSpec("p_ratio", "p / p(top)", "", "p(x_t) / p(1)", "Gehrmann 2019 (GLTR)",
                   lo=0.0, hi=1.0, better="high"))  # fmt: skip
def p_ratio(d: Distribution) -> torch.Tensor:
    """p of the token over p of the most likely one ("Frac(p)", Gehrmann 2019, GLTR)."""
    return (d.target_logp - d.top2[:, 0]).exp()


def top_alternatives(d: Distribution, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ids int64 (n, k) and logprobs float32 (n, k) of the k most likely tokens, in order."""
    size = d.logits.shape[1]
    k = min(k, size)
    more = min(max(k + 1, 2), size)  # one more shows whether a tie is cut in two
    values, ids = d.logp.topk(more, dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
    for row in tied.nonzero()[:, 0].tolist():
        at = (d.logp[row] >= values[row, -1]).nonzero()[:, 0]  # ascending ids
        order = d.logits[row, at].sort(descending=True, stable=True).indices[:more]
        ids[row] = at[order]
        values[row] = d.logp[row, ids[row]]
    d.__dict__["top2"] = values[:, :2]  # the same pass serves margin and p_ratio
    return ids[:, :k], values[:, :k]
