"""Edit likelihood: examples, what is learnt of them, and whether it says how good it is."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tokenscope as ts
from tests.evidence.test_cases import git
from tokenscope.cli.commands import run
from tokenscope.errors import AbilityError, InputError
from tokenscope.evidence import mutants
from tokenscope.evidence.learnt import (
    Learnt,
    apply,
    auroc,
    average_precision,
    isotonic,
    learn,
    logistic,
    pooled,
    read_learnt,
)
from tokenscope.runs.likelihood import FEATURES, FOLLOW, features, learn_edits, likelihood, lines_of

CODE = '''def total(values, limit):
    """The sum."""
    found = 0
    for value in values:
        if value < limit and not found == 3:
            found += value
    # a comment
    return found
'''


def test_a_mutant_parses_and_differs_in_one_line() -> None:
    kinds = set()
    for seed in range(60):
        made = mutants.example("a.py", CODE, random.Random(seed), left=False)
        assert made is not None
        compile(made.text, "a", "exec")
        pairs = zip(CODE.splitlines(), made.text.splitlines(), strict=True)
        changed = {n for n, (a, b) in enumerate(pairs) if a != b}
        assert changed == set(made.changed) and changed <= made.lines
        assert made.lines == {2, 4, 5, 7}  # neither docstring, comment, nor the definition
        kinds.add(made.text)
    assert len(kinds) > 10
    left = mutants.example("a.py", CODE, random.Random(0), left=True)
    assert left is not None and left.text == CODE and not left.changed


def test_users_own_changes_are_examples(tmp_path: Path) -> None:
    after = CODE.replace("value < limit", "value <= limit")
    (tmp_path / "p.jsonl").write_text(json.dumps({"before": CODE, "after": after, "file": "f"}))
    (made,) = mutants.pairs(tmp_path / "p.jsonl")
    assert made.changed == {4} and made.file == "f"
    (tmp_path / "q.jsonl").write_text('{"before": "x = 1"}\n')
    with pytest.raises(InputError, match=r"q\.jsonl line 1"):
        list(mutants.pairs(tmp_path / "q.jsonl"))
    repository = tmp_path / "r"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    for n, text in enumerate((CODE, after)):
        (repository / "a.py").write_text("import os\n\n\n" + text)
        git(repository, "add", ".")
        git(repository, "commit", "-qm", str(n))
    (held,) = mutants.history(repository)
    assert held.text == CODE and held.changed == {4} and held.file == "a.py"
    with pytest.raises(InputError, match="no git repository"):
        list(mutants.history(tmp_path / "nowhere"))


def test_the_regression_is_the_minimum_that_another_method_finds() -> None:
    chance = np.random.default_rng(0)
    z = chance.normal(size=(300, 3))
    y = (chance.random(300) < 1 / (1 + np.exp(-(z @ [1.0, -2.0, 0.0] + 0.5)))).astype(float)
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    x, t = torch.tensor(np.hstack([z, np.ones((300, 1))])), torch.tensor(y)
    optimiser = torch.optim.LBFGS([w], max_iter=500, tolerance_grad=1e-10)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        made = torch.nn.functional.binary_cross_entropy_with_logits(x @ w, t, reduction="sum")
        made = made + 1.5 * (w[:3] ** 2).sum()
        made.backward()  # type: ignore[no-untyped-call]
        return made

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(logistic(z, y, 3.0), w.detach().numpy(), atol=1e-5)


def test_isotonic_is_the_best_ascending_fit() -> None:
    chance = np.random.default_rng(1)
    for _ in range(30):
        y = chance.integers(0, 2, 6).astype(float)
        scores = np.arange(6.0)
        best = np.inf
        for cuts in itertools.product([0, 1], repeat=5):  # every way to cut six values into blocks
            blocks = np.split(y, [n + 1 for n, c in enumerate(cuts) if c])
            means = [b.mean() for b in blocks]
            if all(a <= b for a, b in itertools.pairwise(means)):
                best = min(best, sum(((b - b.mean()) ** 2).sum() for b in blocks))
        held = pooled(scores, y)
        assert (np.diff(held[:, 2]) > 0).all() and held[:, 3].sum() == 6
        fitted = np.repeat(held[:, 2], held[:, 3].astype(int))
        assert ((y - fitted) ** 2).sum() == pytest.approx(best)
        knots = isotonic(scores, y)
        np.testing.assert_allclose(apply(knots, knots[:, 0]), held[:, 2])
    (tied,) = pooled(np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    assert tied.tolist() == [1.0, 1.0, 0.5, 2.0]


def test_ranking_figures_are_those_of_all_pairs() -> None:
    chance = np.random.default_rng(2)
    s, y = chance.integers(0, 6, 40).astype(float), chance.integers(0, 2, 40).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in s[y > 0] for b in s[y == 0]]
    assert auroc(s, y) == pytest.approx(np.mean(pairs))
    order = sorted(range(40), key=lambda n: (-s[n], n))
    precision = [np.mean([y[m] for m in order[: k + 1]]) for k, n in enumerate(order) if y[n]]
    assert average_precision(s, y) == pytest.approx(np.mean(precision))


def learnt(signal: float, seed: int = 0, n: int = 3000) -> Learnt:
    chance = np.random.default_rng(seed)
    y = chance.random(n) < 0.1
    rows = chance.normal(size=(n, 2))
    rows[:, 0] += signal * y
    files = [f"f{k}" for k in chance.integers(0, 60, n)]
    return learn(
        rows, y, files, ("a", "b"), {"surprisal": rows[:, 1], "random": chance.random(n)},
        "m", "d", {},
    )  # fmt: skip


def test_it_says_whether_it_is_better_than_surprisal() -> None:
    good, *bad = learnt(1.5), *(learnt(0.0, seed, 1000) for seed in range(4))
    assert good.better and good.auroc > 0.8 and good.ece <= 0.05
    assert "better than surprisal" in good.verdict and "NOT" not in good.verdict
    assert not any(b.better for b in bad)
    assert all("NOT surely better" in b.verdict and abs(b.auroc - 0.5) < 0.1 for b in bad)
    # calibrated: what is said is what comes, in every bin, on fresh rows as well
    chance = np.random.default_rng(9)
    y = chance.random(20_000) < 0.1
    rows = chance.normal(size=(20_000, 2))
    rows[:, 0] += 1.5 * y
    said = good.probability(rows)
    for part in np.array_split(np.argsort(said), 10):
        assert abs(said[part].mean() - y[part].mean()) < 0.05
    with pytest.raises(InputError, match="too few"):
        learn(np.zeros((40, 1)), np.arange(40) < 20, ["one"] * 40, ("a",), {}, "m", "d", {})


def test_a_replacement_gains_what_eager_attention_says(bundled: ts.Model) -> None:
    trace = bundled.score(CODE, language="python")
    places, rows = features(bundled, trace, {2, 4, 5, 7})
    assert places == [2, 4, 5, 7] and rows.shape == (4, len(FEATURES))
    at = {n: i for i, n in enumerate(FEATURES)}
    eager = transformers.AutoModelForCausalLM.from_pretrained(
        bundled.path, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    of = lines_of(trace)
    assert trace.alternatives is not None
    for line, row in zip(places, rows, strict=True):
        tokens = np.nonzero(of == line)[0]
        ratio = trace.column("p_ratio")[tokens]
        worst = int(tokens[int(np.argmin(ratio))])
        if ratio.min() > 0.999:
            continue  # several are the model's own choice: any of them may be taken
        other = next(int(i) for i in trace.alternatives.ids[worst] if i != trace.ids[worst])
        gains = []
        for token in (other, int(trace.ids[worst])):
            ids = trace.ids.astype(np.int64).copy()
            ids[worst] = token
            with torch.no_grad():
                logp = eager(torch.tensor(ids[None])).logits[0].log_softmax(-1).numpy()
            span = range(worst + 1, min(worst + 1 + FOLLOW, len(ids)))
            follow = sum(logp[t - 1, ids[t]] for t in span)
            gains.append((follow, follow + logp[worst - 1, token]))
        assert row[at["gain_following"]] == pytest.approx(gains[0][0] - gains[1][0], abs=1e-3)
        assert row[at["gain_whole"]] == pytest.approx(gains[0][1] - gains[1][1], abs=1e-3)
        own = trace.column("surprisal")[tokens]
        assert row[at["surprisal_max"]] == pytest.approx(own.max(), abs=1e-5)


@pytest.fixture(scope="module")
def small(bundled: ts.Model) -> Learnt:
    """Learnt from two dozen functions, each a file of its own."""
    made = [
        mutants.example(
            f"f{n}.py",
            f"def f{n}(a, b):\n    c = a + {n}\n    if c < b:\n        return a\n    return c\n",
            random.Random(n),
            left=n % 4 == 0,
        )
        for n in range(28)
    ]
    return learn_edits(bundled, [m for m in made if m is not None])


def test_a_column_with_its_quality(
    bundled: ts.Model, small: Learnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small.files == 28 and small.positives == 21
    assert [r.name.partition(",")[0] for r in small.rivals] == [
        "surprisal", "surprisal", "entropy", "random",
    ]  # fmt: skip
    small.save(tmp_path / "learnt.json")
    assert read_learnt(tmp_path / "learnt.json") == small
    found = likelihood(bundled, bundled.score(CODE, language="python"), small)
    column = found.trace.columns["edit_likelihood"]
    assert column.quality == "estimate" and column.spec.hi == 1.0
    assert {n for n, _ in found.lines} == {2, 4, 5, 7}
    of = lines_of(found.trace)
    for line, p in found.lines:
        held = column.values[of == line]
        assert 0 <= p <= 1 and held == pytest.approx(p)
    assert np.isnan(column.values[of == 1]).all()  # the docstring
    found.trace.save(tmp_path / "a.trace")
    assert ts.read(tmp_path / "a.trace").columns["edit_likelihood"].quality == "estimate"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tokenscope.runs.likelihood._SHIPPED", tmp_path / "none")
    with pytest.raises(AbilityError, match="learn-edits"):
        likelihood(bundled, bundled.score("x = 1\n"))
    held = Learnt(**{**small.__dict__, "model_digest": "other"})
    with pytest.raises(InputError, match="another model"):
        likelihood(bundled, bundled.score("x = 1\n"), held)


def test_the_commands(small: Learnt, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.save(tmp_path / "learnt.json")
    (tmp_path / "a.py").write_text(CODE)
    asked = ["likelihood", str(tmp_path / "a.py"), "--learnt", str(tmp_path / "learnt.json")]
    assert run([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {x["line"] for x in told["lines"]} == {3, 5, 6, 8} and told["verdict"] == small.verdict
    assert run(["learn-edits", "--files", "0", "--pairs", str(tmp_path / "none")]) == 2
    (tmp_path / "bent.json").write_text("{}")
    assert run([*asked[:3], str(tmp_path / "bent.json")]) == 2


def test_over_the_wire(
    bundled: ts.Model, small: Learnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.server.conftest import Servers
    from tokenscope.server.models import Models

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tokenscope.runs.likelihood._SHIPPED", tmp_path / "none")
    servers = Servers(tmp_path)
    served = servers.start(models=Models.of_one(bundled))
    body = {"text": CODE, "language": "python"}
    events: Any = served.events(f"/api/sessions/{served.session()}/score", body)
    url = f"/api/nodes/{events[-1]['node']['id']}/likelihood"
    assert served.client.get(url).status_code == 409
    small.save(tmp_path / "tokenscope" / "likelihood" / f"{bundled.info.model_digest[:32]}.json")
    told = served.client.get(url).json()
    wanted = likelihood(bundled, bundled.score(CODE, language="python"), small)
    values = [np.nan if v is None else v for v in told["values"]]
    np.testing.assert_allclose(values, wanted.trace.column("edit_likelihood"), atol=1e-3)
    assert told["quality"]["verdict"] == small.verdict
    assert sum(b["n"] for b in told["quality"]["bins"]) == small.rows
    assert told["lines"][0]["line"] == wanted.lines[0][0] + 1
    servers.stop()
