"""The notebook widget's Python side: what it shows, and what a click does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tokenscope.runs.model import Model
from tokenscope.runs.widget import Explorer
from tokenscope.trace import Trace


@pytest.fixture
def explorer(bundled: Model) -> Explorer:
    trace = bundled.generate("def f(x):\n    return", max_new_tokens=8)
    return bundled.explorer(trace, max_new_tokens=4)


def test_it_shows_what_was_measured(explorer: Explorer) -> None:
    view, trace = explorer.widget.view, explorer.trace
    json.dumps(view, allow_nan=False)  # what crosses to the browser is plain
    t = trace.n_prompt + 2
    shown = view["tokens"][t]
    assert shown["numbers"]["entropy"] == pytest.approx(float(trace.column("entropy")[t]))
    assert trace.alternatives is not None
    assert [a["id"] for a in shown["alternatives"]] == trace.alternatives.ids[t].tolist()
    assert shown["alternatives"][1]["p"] == pytest.approx(
        float(np.exp(trace.alternatives.logprobs[t][1]))
    )
    assert view["tokens"][1]["given"] and view["tokens"][1]["class"] == "given"


def test_a_click_grows_the_branch_of_the_python_face(explorer: Explorer, bundled: Model) -> None:
    base: Trace = explorer.trace
    at = base.n_prompt + 2
    assert base.alternatives is not None
    token = int(base.alternatives.ids[at][1])
    explorer.told({"what": "fork", "at": at, "id": token})
    again = bundled.fork(base, at, token, max_new_tokens=4)
    assert explorer.trace.ids.tolist() == again.ids.tolist()
    assert explorer.tree["1"].parent == "base" and explorer.tree["1"].at == at
    view = explorer.widget.view
    assert (view["shown"], view["problem"]) == ("1", "")
    assert [b["name"] for b in view["branches"]] == ["base", "1"]
    explorer.told({"what": "show", "branch": "base"})
    assert explorer.trace is base
    explorer.told({"what": "column", "column": "entropy"})
    assert explorer.widget.view["title"] == "Entropy"


@pytest.mark.parametrize(
    "message",
    [
        {}, {"what": "fork"}, {"what": "fork", "at": "1", "id": 3},
        {"what": "fork", "at": 10**6, "id": 3}, {"what": "fork", "at": 3, "id": 10**7},
        {"what": "show", "branch": "none"}, {"what": "column", "column": "none"},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(explorer: Explorer, message: dict[str, object]) -> None:
    before = explorer.tree
    explorer.told(message)
    assert explorer.widget.view["problem"]
    assert explorer.tree is before
