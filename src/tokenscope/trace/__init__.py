"""The one type of the house and its parts. numpy only: no torch, no web."""

from tokenscope.trace.alternatives import Alternative, Alternatives
from tokenscope.trace.attention import Attention
from tokenscope.trace.columns import COLUMNS, Column, ColumnSpec
from tokenscope.trace.files import read
from tokenscope.trace.join import Part
from tokenscope.trace.origin import Origin
from tokenscope.trace.record import Trace, trace_of
from tokenscope.trace.tokens import Token, Tokens
from tokenscope.trace.tree import Branch, Tree, differs_at, joint_logprob

__all__ = [
    "COLUMNS", "Alternative", "Alternatives", "Attention", "Branch", "Column", "ColumnSpec",
    "Origin", "Part", "Token", "Tokens", "Trace", "Tree", "differs_at", "joint_logprob", "read",
    "trace_of",
]  # fmt: skip
