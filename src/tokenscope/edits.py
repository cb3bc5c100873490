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
from tokenscope.trace.inside import Ablate, Attend, Patch, Steer

__all__ = [
    "Ablate", "Attend", "Ban", "BanCode", "BanText", "Bias", "BiasText", "Edit", "Force",
    "Grammar", "JsonSchema", "Patch", "Regex", "Require", "Standing", "Steer", "Viable",
    "read_edits",
]  # fmt: skip
