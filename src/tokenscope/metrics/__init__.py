"""Signals: one function, one formula, one registered name each."""

from tokenscope.metrics.step import METRICS, Distribution, measure, top_alternatives

__all__ = ["METRICS", "Distribution", "measure", "top_alternatives"]
