"""A trace in a notebook that answers: hover for numbers, click an alternative and a branch grows.

The extra ``notebook`` brings anywidget, which runs in Jupyter, VS Code and Colab. All that happens
in the browser is in ``widget.js``; this side keeps the tree and decodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenscope.errors import InputError, MissingError, TokenScopeError
from tokenscope.pictures.paper import STYLE, ends, share, step
from tokenscope.trace.display import visible
from tokenscope.trace.record import Trace
from tokenscope.trace.tree import Tree

if TYPE_CHECKING:
    from anywidget import AnyWidget

    from tokenscope.runs.model import Model

SCRIPT = Path(__file__).with_name("widget.js")
MOST_TOKENS = 4000
SHOWN = ("surprisal", "probability", "rank", "entropy", "margin")


class Explorer:
    """A tree of branches and what the browser is shown of it.

    ``tree`` grows with every click; ``trace`` is the branch that is shown. ``widget`` is what a
    notebook displays. ``settings`` are those of the branches that it grows.
    """

    def __init__(
        self, model: Model, trace: Trace, column: str = "surprisal", **settings: Any
    ) -> None:
        trace.column_of(column)
        self.model, self.column = model, column
        self.settings: dict[str, Any] = {"max_new_tokens": 32, **settings}
        self.tree = Tree().add("base", trace)
        self.shown = "base"
        self.widget = made(self)

    @property
    def trace(self) -> Trace:
        """The branch that is shown."""
        return self.tree[self.shown].trace

    def told(self, message: Mapping[str, Any]) -> None:
        """What the browser asks: ``fork`` (at, id), ``show`` (a branch), ``column`` (a name).

        What cannot be done is said in the widget, not raised: nobody would see it.
        """
        try:
            what = message.get("what")
            if what == "fork":
                self.fork(_whole(message, "at"), _whole(message, "id"))
            elif what == "show":
                self.show(str(message.get("branch")))
            elif what == "column":
                name = str(message.get("column"))
                self.trace.column_of(name)
                self.column = name
            else:
                raise InputError("what", "is unknown")
            problem = ""
        except TokenScopeError as error:
            problem = str(error)
        self.widget.view = {**view(self), "problem": problem}

    def fork(self, at: int, token: int) -> None:
        """Grow a branch of the shown one and show it. Raises InputError, CapacityError."""
        branch = self.model.fork(self.trace, at, token, **self.settings)
        name = f"{len(self.tree.branches)}"
        self.tree = self.tree.add(name, branch, parent=self.shown)
        self.shown = name

    def show(self, branch: str) -> None:
        """Show another branch. Raises NotFound."""
        self.tree[branch]
        self.shown = branch

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)


def view(made: Explorer) -> dict[str, Any]:
    """All that the browser draws, as plain values; every text made safe to look at."""
    trace, name = made.trace, made.column
    spec = trace.column_of(name).spec
    values = trace.column(name).tolist()
    columns = {n: trace.column(n).tolist() for n in SHOWN if n in trace.columns}
    tokens = []
    for t in range(min(len(trace), MOST_TOKENS)):
        token = trace.tokens[t]
        given = t < trace.n_prompt
        held = [] if trace.alternatives is None else trace.alternatives.row(t, token.id)
        tokens.append({
            "text": visible(token.text), "special": token.special, "given": given,
            "class": "given" if given else step(share(spec, values[t])),
            "numbers": {n: v[t] for n, v in columns.items() if math.isfinite(v[t])},
            "alternatives": [
                {"id": a.id, "text": visible(a.label or a.bytes.decode("utf-8", "replace")),
                 "p": math.exp(a.logprob), "chosen": a.chosen}
                for a in held
            ],
        })  # fmt: skip
    rows = made.tree.rows()
    return {
        "tokens": tokens, "more": len(trace) - len(tokens), "column": name, "unit": spec.unit,
        "title": spec.title, "ends": list(ends(spec)),
        "columns": [n for n in SHOWN if n in trace.columns], "shown": made.shown, "problem": "",
        "branches": [
            {"name": r["name"], "depth": r["depth"], "at": r["at"], "own": visible(r["own"]),
             "instead": visible(r["instead"]), "tokens": r["tokens"], "mean": r["mean_surprisal"]}
            for r in rows
        ],
    }  # fmt: skip


def made(explorer: Explorer) -> AnyWidget:
    """The widget of an explorer. Raises MissingError where anywidget is not installed."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise MissingError(
            'anywidget is not installed: pip install "tokenscope[notebook]"'
        ) from None

    class Widget(anywidget.AnyWidget):
        _esm = SCRIPT
        _css = STYLE
        view = traitlets.Dict().tag(sync=True)

    widget = Widget(view=view(explorer))
    widget.on_msg(lambda _, content, __: explorer.told(content))
    return widget


def _whole(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(name, "must be a whole number")
    return value
