"""Signals: one function, one formula, one registered name each."""

from tokenscope.metrics.measure import Measured, measure, metric_names
from tokenscope.metrics.step import METRICS, Distribution

__all__ = ["METRICS", "Distribution", "Measured", "measure", "metric_names"]
