"""TokenScope: look into a code model while it decodes.

Names are loaded when first used, so that reading a trace or asking for help needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenscope.registry import promise

if TYPE_CHECKING:
    from tokenscope import edits
    from tokenscope.errors import TokenScopeError
    from tokenscope.runs.audit import audit
    from tokenscope.runs.compare import compare
    from tokenscope.runs.compare_syntax import compare_models
    from tokenscope.runs.explain_many import explain_many
    from tokenscope.runs.generate import Settings
    from tokenscope.runs.model import Model, load
    from tokenscope.runs.replay import replay
    from tokenscope.trace import Trace, Tree, read

__version__ = "0.1.0"
__all__ = [
    "Model",
    "Settings",
    "TokenScopeError",
    "Trace",
    "Tree",
    "audit",
    "compare",
    "compare_models",
    "edits",
    "explain_many",
    "load",
    "read",
    "replay",
]

_HOMES = {
    "audit": "tokenscope.runs.audit",
    "compare": "tokenscope.runs.compare",
    "compare_models": "tokenscope.runs.compare_syntax",
    "explain_many": "tokenscope.runs.explain_many",
    "Model": "tokenscope.runs.model",
    "load": "tokenscope.runs.model",
    "Settings": "tokenscope.runs.generate",
    "TokenScopeError": "tokenscope.errors",
    "Trace": "tokenscope.trace",
    "Tree": "tokenscope.trace",
    "read": "tokenscope.trace",
    "replay": "tokenscope.runs.replay",
}

# What upper floors do with a trace; their modules are loaded when the view is first asked for.
promise("view", "tokenscope.code.views", "structure", "regions", "rollup")
promise("view", "tokenscope.trace.views", "pandas", "arrow", "polars", "json")
promise("view", "tokenscope.trace.files", "bytes", "from_bytes", "save")
promise("view", "tokenscope.evidence.views", "findings")
promise("picture", "tokenscope.pictures.tokens", "tokens")
promise("picture", "tokenscope.pictures.branches", "tree", "beside")
promise("picture", "tokenscope.pictures.attention", "attention", "heads")
promise("picture", "tokenscope.pictures.icicle", "icicle")
promise("picture", "tokenscope.pictures.outcomes", "outcomes")
promise("picture", "tokenscope.explain.drawing", "why")
promise("picture", "tokenscope.runs.card", "model")


def __getattr__(name: str) -> Any:
    if name == "edits":
        return import_module("tokenscope.edits")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tokenscope' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "edits"])
