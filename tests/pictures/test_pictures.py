"""Pictures: what they say is what was measured, nothing in them runs or is fetched, both themes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.errors import InputError, NotFound, UnknownName
from tokenscope.pictures.icicle import sums
from tokenscope.pictures.paper import STEPS, THEMES, contrast, luminance, step_colours
from tokenscope.runs.model import Model
from tokenscope.trace import Trace, Tree
from tokenscope.trace.drawn import Drawn

CODE = "def add(a, b):\n    total = a + b\n    return total\n\n\nclass A:\n    x = add(1, 2)\n"
HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m\" '"


@pytest.fixture(scope="module")
def trace(bundled: Model) -> Trace:
    return bundled.generate("def parse(line):\n    for part in", max_new_tokens=24)


@pytest.fixture(scope="module")
def tree(bundled: Model, trace: Trace) -> Tree:
    at = trace.n_prompt + 6
    one = bundled.fork(trace, at, " while", max_new_tokens=8)
    two = bundled.fork(one, at + 5, HOSTILE, max_new_tokens=4)
    return Tree.of({"base": trace, "one": one, HOSTILE: two})


class Reader(HTMLParser):
    """What a document holds: its tags, its text, every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def things(trace: Trace, tree: Tree, model: Model) -> dict[str, Drawn]:
    at = trace.n_prompt + 3
    why = model.explain(trace, at, contrast=" zzz", also=("components", "regions"))
    hostile = model.score(f"x = '{HOSTILE}'\n")
    explored = model.explore(f"x = '{HOSTILE}'\n", width=2, depth=2, horizon=4, outcome="bytes")
    return {
        "trace": trace, "tree": tree, "why": why, "model": model, "hostile": hostile,
        "explored": explored,
    }  # fmt: skip


def test_nothing_runs_and_nothing_is_fetched(
    trace: Trace, tree: Tree, bundled: Model, tmp_path: Path
) -> None:
    drawn = 0
    for thing in things(trace, tree, bundled).values():
        for name in thing.pictures:
            if isinstance(thing, Trace) and thing.attention is None and name in (
                "attention", "heads"):  # fmt: skip
                with pytest.raises(InputError, match="was not recorded"):
                    thing.draw(name)
                continue
            whole = thing.html(name)
            read = Reader(whole)
            assert not {t for t, _ in read.tags} & {"script", "img", "link", "iframe", "object"}
            for _, attributes in read.tags:
                assert not [a for a in attributes if a.startswith("on") or a in ("src", "href")]
            assert "url(" not in whole and "@import" not in whole
            assert whole.count("</style>") == whole.count("<style>")
            assert "\u202e" not in whole and "\x1b" not in whole
            assert thing.save_html(tmp_path / "a.html", name).read_text() == whole
            drawn += 1
    assert drawn == 4 + 2 + 1 + 1 + 2 + 1
    assert HOSTILE[:20] in Reader(tree.html("beside")).text  # it is shown, as text
    with pytest.raises(UnknownName, match="known: attention, heads, icicle, tokens"):
        trace.draw("nothing")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sign", ["q", "n"])
def test_every_step_can_be_read_and_steps_grow_evenly(theme: str, sign: str) -> None:
    steps = step_colours(theme, sign)
    assert len(steps) == STEPS
    assert min(contrast(paper, ink) for paper, ink in steps) >= 4.5
    light = [luminance(paper) for paper, _ in steps]
    assert light == sorted(light, reverse=theme == "light")
    held = THEMES[theme]
    assert contrast(held["quiet"], held["paper"]) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


def test_the_tokens_are_the_text_and_their_numbers(trace: Trace) -> None:
    page = trace.draw("tokens", column="entropy").body
    spans = [(a, t) for t, a in Reader(page).tags if t == "span" and "title" in a]
    assert len(spans) == len(trace)
    t = trace.n_prompt + 2
    title = spans[t][0]["title"] or ""
    assert f"entropy {float(trace.column('entropy')[t]):.4g} nats" in title
    assert "Entropy 0" in Reader(page).text
    high = int(np.nanargmax(trace.column("entropy")[trace.n_prompt :])) + trace.n_prompt
    low = int(np.nanargmin(trace.column("entropy")[trace.n_prompt :])) + trace.n_prompt
    grade = [int((spans[i][0]["class"] or "").removeprefix("q")) for i in (low, high)]
    assert grade[0] < grade[1]
    with pytest.raises(UnknownName):
        trace.draw(column="entropie")


def test_an_icicle_has_the_means_of_the_roll_up(bundled: Model) -> None:
    """Two ways to the same number: running sums over bytes, and the roll-up over the tree."""
    scored = bundled.score(CODE)
    total, weight = sums(scored, "surprisal")
    for by in ("function", "statement", "class"):
        frame = scored.rollup("surprisal", by=by)
        assert len(frame)
        for row in frame.itertuples():
            mean = (total[row.end] - total[row.start]) / (weight[row.end] - weight[row.start])
            assert mean == pytest.approx(row.mean, rel=1e-6)
            assert f"{row.mean:.3g} nats" in scored.draw("icicle").body
    read = Reader(scored.draw("icicle").body)
    assert "function_definition add" in read.text and "class_definition A" in read.text


def test_a_matrix_has_the_recorded_weights(trace: Trace) -> None:
    assert trace.attention is not None
    t = trace.n_prompt + 5
    layer = trace.attention.layers[1]
    page = trace.draw("attention", layer=layer, head_=2, first=t, last=t, sink=True).body
    found = [float(v) for v in re.findall(r"looked at .*?: (\d\.\d+)", page)]
    np.testing.assert_allclose(found, trace.attention.row(layer, 2, t)[:t], atol=6e-4)
    mean = trace.draw("attention", first=t, last=t, sink=True).body
    found = [float(v) for v in re.findall(r"looked at .*?: (\d\.\d+)", mean)]
    np.testing.assert_allclose(found, trace.attention.block(t).mean((0, 1)), atol=6e-4)
    for wrong in ({"layer": 99}, {"head_": 99}, {"layer": "median"}, {"first": 0, "last": 1}):
        with pytest.raises(InputError):
            trace.draw("attention", **wrong)


def test_the_heads_of_a_token(trace: Trace) -> None:
    assert trace.attention is not None
    t = trace.n_prompt + 5
    titles = [a["title"] or "" for tag, a in Reader(trace.draw("heads", t=t).body).tags
              if tag == "td"]  # fmt: skip
    block = trace.attention.block(t)
    assert len(titles) == block.shape[0] * block.shape[1]
    best = int(block[1, 2, 1:].argmax()) + 1
    where = titles[block.shape[1] + 2]
    assert (
        where
        == f"layer {trace.attention.layers[1]}, head 2: {block[1, 2, best]:.3f} on token {best}"
    )


def test_a_tree_says_where_branches_differ(tree: Tree) -> None:
    text = Reader(tree.draw().body).text
    assert f"at {tree['one'].at}: ' while' for" in text
    row = next(r for r in tree.rows() if r["name"] == "one")
    assert f"{row['mean_surprisal']:.2f} nats each" in text
    beside = Reader(tree.draw("beside", names=["base", "one"]).body)
    assert f"{tree['one'].at} tokens shared" in beside.text
    with pytest.raises(NotFound):
        tree.draw("beside", names=["no"])


def test_an_explanation_shows_its_numbers(trace: Trace, bundled: Model) -> None:
    why = bundled.explain(trace, trace.n_prompt + 3, contrast=" zzz", also=("components",))
    read = Reader(why.draw().body)
    assert why.sentence in read.text and why.beside in read.text
    titles = [a["title"] for tag, a in read.tags if tag == "span" and "title" in a]
    assert titles[4] == f"token 4: {float(why.values[4]):+.4f} nats"
    assert "components" in read.text


def test_interventions_can_be_saved_too(bundled: Model, tmp_path: Path) -> None:
    made = bundled.lens("for i in range(n):")
    page = made.save_html(tmp_path / "lens.html").read_text()
    assert page.startswith("<!doctype html>") and "p of the actual token" in Reader(page).text


def test_the_documented_names_are_there(trace: Trace) -> None:
    assert trace.html().startswith("<!doctype html>")
    assert len(trace.structure.regions) == len(trace.regions)
    frame = trace.to_polars()
    assert frame["id"].to_list() == trace.ids.tolist()
    assert frame["alternatives"][5][0]["id"] == int(trace.alternatives.ids[5][0])  # type: ignore[union-attr]


def test_no_stray_warnings_at_import() -> None:
    import subprocess
    import sys

    script = "import tokenscope as ts; ts.Model; ts.load; ts.Tree; import tokenscope.runs.model"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr[-500:]
    assert ts.load is not None


def test_outcomes_show_the_whole_mass(bundled: Model) -> None:
    found = bundled.explore("for i in range(", width=3, depth=2, horizon=6, outcome="bytes")
    reader = Reader(found.html())
    bar = [
        float(re.findall(r"flex:([\d.]+)", a["style"] or "")[0])
        for tag, a in reader.tags if tag == "i" and "flex" in (a.get("style") or "")
    ]  # fmt: skip
    assert sum(bar) == pytest.approx(1.0, abs=1e-4)  # what is unexplored is part of it
    assert bar[-1] == pytest.approx(found.unexplored.total, abs=1e-6)
    for outcome in found.outcomes:
        assert f"{outcome.mass:.4f}[{outcome.low:.4f}, {outcome.high:.4f}]" in reader.text
    assert f"{found.unexplored.total:.4f}unexplored" in reader.text
    drawn = bundled.explore("x = ", way="sampled", draws=20, horizon=3)
    assert "Wilson" in drawn.html()
