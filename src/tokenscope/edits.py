"""All edits by name, for the Python face: ``ts.edits.BanText(("eval(",))``."""

from tokenscope.runs.edits import read_edits
from tokenscope.trace.constraints import (
    BanCode,
    BanText,
    BiasText,
    Grammar,
    JsonSchema,
    Regex,
    Require,
    Viable,
)
from tokenscope.trace.edits import Ban, Bias, Edit, Force, Standing

__all__ = [
    "Ban", "BanCode", "BanText", "Bias", "BiasText", "Edit", "Force", "Grammar", "JsonSchema",
    "Regex", "Require", "Standing", "Viable", "read_edits",
]  # fmt: skip
