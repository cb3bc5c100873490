"""The faces of interventions on the bundled model: words, frames, documents, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.errors import InputError
from tokenscope.explain.intervals import interval, ratios
from tokenscope.runs.explain import internals_of
from tokenscope.runs.explain_many import read_prompts
from tokenscope.runs.heads import joined, survey
from tokenscope.runs.kept_lens import kept_lens, lens_path
from tokenscope.runs.model import Model

CLEAN = "for i in range(n):\n    print("
CORRUPT = "for k in range(n):\n    print("
REFERENCE = ["def add(a, b):\n    return a + b\n", "import os\n\nfor name in os.listdir():\n"]


def whole(made: Any) -> dict[str, Any]:
    """A document is plain JSON, and the picture carries no markup of the text."""
    document: dict[str, Any] = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert document["definitions"] and "<" in made._repr_html_()
    return document


def test_a_patch_map(bundled: Model) -> None:
    made = bundled.patch_map(CLEAN, CORRUPT, token="i", contrast="k")
    document = whole(made)
    assert document["clean"] > document["corrupt"] + 1 and document["token"] == "i"
    frame = made.to_pandas()
    place = frame[(frame["part"] == "residual") & (frame["effect"] > 0.99)]
    # at the first layer only the token that differs restores the answer, at the last the end
    assert set(place[place["layer"] == 0]["token"]) == {" k"}
    layers, n = made.effect("residual").shape
    assert made.effect("residual")[layers - 1, n - 1] > made.effect("residual")[layers - 1, n - 5]
    noised = bundled.patch_map(
        CLEAN, CORRUPT, token="i", contrast="k", noising=True, parts=["heads"]
    )
    assert noised.map.clean == pytest.approx(made.map.clean) and " i" in noised.columns
    with pytest.raises(InputError, match="align"):
        bundled.patch_map(CLEAN, "x" + CORRUPT)
    with pytest.raises(InputError, match="corrupt: must be a text"):
        bundled.patch_map(CLEAN, "")


def test_a_causal_trace(bundled: Model) -> None:
    made = bundled.causal_trace(CLEAN, " i", token="i", contrast="k", draws=3, parts=["residual"])
    document = whole(made)
    [at] = document["subject"]
    assert len(document["corrupt"]) == 3 and made.columns[at] == " i"
    frame = made.to_pandas()
    assert (
        (frame["low"] <= frame["effect"] + 1e-9) & (frame["effect"] <= frame["high"] + 1e-9)
    ).all()
    assert made.effect("residual")[0, at] == pytest.approx(1, abs=1e-3)
    with pytest.raises(InputError, match="subject"):
        bundled.causal_trace(CLEAN, "absent")


def test_what_stands_in_for_a_part_is_named(bundled: Model) -> None:
    own = bundled.ablate_map(CLEAN, token="i", contrast="k")
    mean = bundled.ablate_map(CLEAN, token="i", contrast="k", reference=REFERENCE)
    assert own.how == "own_mean" and "own positions" in own.note
    assert mean.how == "mean" and "2 reference texts" in mean.note
    assert own.rows != mean.rows and len(whole(own)["rows"]) == len(mean.rows)
    drawn = bundled.ablate_map(CLEAN, how="resample", reference=REFERENCE, draws=2)
    assert {"low", "high"} <= set(drawn.to_pandas().columns)
    with pytest.raises(InputError, match="unused"):
        bundled.ablate_map(CLEAN, how="zero", reference=REFERENCE)
    paths = bundled.path_effects(CLEAN, token="i", contrast="k", top=3)
    assert paths.kind == "paths" and whole(paths)["rows"] == list(paths.rows)


def test_heads_on_repeats_stand_beside_the_survey(bundled: Model) -> None:
    made = bundled.repeated_heads()
    assert bundled.repeated_heads() is made  # once per model
    assert made.gain.mean() > 0.5  # the bundled model uses a repetition
    mean, low, high = made.interval("repeat_induction")
    assert float(mean.max()) > 0.2 and np.all(low <= high)
    seen = survey(bundled, bundled.score(CLEAN), size=4)
    assert np.array_equal(seen.statistics["repeat_induction"], made.mean("repeat_induction"))
    assert joined(seen, made).counts["repeat_previous"] == 50 * 8


def test_a_fitted_lens_is_kept_and_used(
    bundled: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(ts.__file__).with_name("registry.py").read_text() * 2
    assert kept_lens(bundled, internals_of(bundled), tmp_path) is None
    fit = bundled.fit_lens(text, steps=12, folder=tmp_path, batch=32, rate=2e-3, source="registry")
    assert lens_path(bundled, tmp_path).is_file() and fit.source == "registry"
    assert fit.tuned_kl.mean() < fit.logit_kl.mean()
    kept = kept_lens(bundled, internals_of(bundled), tmp_path)
    assert kept is not None and np.allclose(kept.tuned_kl, fit.tuned_kl)
    made = bundled.lens(CLEAN, folder=tmp_path)
    assert made.tuned is not None and bundled.lens(CLEAN, tuned=False).tuned is None
    assert set(made.to_pandas()["lens"]) == {"logit", "tuned"}
    trace = bundled.score(CLEAN)
    assert np.allclose(made.logit.logprob[-1, 1:], trace.column("logprob")[1:], atol=1e-4)
    assert len(whole(made)["tokens"]) == len(trace)
    # the lens table finds it in the data folder, and says so
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    at, folder = len(trace) - 1, tmp_path / "tokenscope"
    before = bundled.explain(trace, at, also=["lens"]).tables["lens"]
    kept.save(lens_path(bundled, folder))
    after = bundled.explain(trace, at, also=["lens"]).tables["lens"]
    assert "tuned_lens" in after.definitions and "tuned_lens" not in before.definitions
    for i, row in enumerate(after.rows):
        assert row["a"] == pytest.approx(float(made.tuned.logprob[i, at]), abs=1e-4)
        assert row["plain_a"] == before.rows[i]["a"] == pytest.approx(row["plain_a"])
    lens_path(bundled, folder).write_bytes(b"no lens")  # a damaged file takes nothing along
    assert bundled.explain(trace, at, also=["lens"]).tables["lens"].note == before.note


def test_many_prompts_with_intervals_and_failures(bundled: Model) -> None:
    prompts = [CLEAN, {"prompt": CORRUPT, "group": "loops", "contrast": "i"},
               {"prompt": "import os\nos.", "group": "imports"}, {"prompt": ""}, "x"]  # fmt: skip
    made = ts.explain_many(bundled, prompts, methods=["input_x_gradient", "attention_mean"])
    document = whole(made)
    assert document["failed"] == len(made.failures) >= 1 and document["n"] == made.n
    assert made.failures[0]["index"] == 3 and "prompt" in made.failures[0]["reason"]
    frame, records = made.to_pandas(), made.records()
    assert (frame["n"] <= made.n).all() and set(frame["what"]) == {
        "part", "faithfulness", "place", "category",
    }  # fmt: skip
    one = frame[(frame["method"] == "input_x_gradient") & (frame["key"] == "deletion")].iloc[0]
    values = records[(records["method"] == "input_x_gradient") & (records["key"] == "deletion")]
    assert one["mean"] == pytest.approx(values["value"].mean()) and one["low"] <= one["mean"]
    pair = frame[frame["method"] == "attention_mean - input_x_gradient"]
    assert set(pair["key"]) == {"deletion", "insertion", "beats random on both"}
    # the parts of direct logit attribution are those of the explanation itself
    trace = bundled.score(CLEAN)
    parts = records[(records["prompt"] == 0) & (records["what"] == "part")]
    b = made.prompts[0]["contrast"]
    table = bundled.explain(trace, len(trace), token=made.prompts[0]["token"], contrast=b,
                            also=["components"]).table("components")  # fmt: skip
    mlp = float(table[(table["part"] == "mlp") & (table["layer"] == 0)]["value"].iloc[0])
    assert float(parts[parts["key"] == "mlp 0"]["value"].iloc[0]) == pytest.approx(mlp, abs=1e-4)
    assert (made.to_pandas(group="loops")["n"] == 1).all()
    with pytest.raises(InputError, match="every one"):
        ts.explain_many(bundled, ["", ""])


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    made = [interval(random.normal(3.0, 1.0, 40), seed=i) for i in range(80)]
    held = np.mean([m.low <= 3.0 <= m.high for m in made])
    assert 0.86 <= held <= 1 and all(m.n == 40 for m in made)
    alone = interval([1.0, float("nan")])
    assert alone.n == 1 and np.isnan(alone.low)
    value, low, high = ratios(np.asarray([[1.0], [3.0]]), np.asarray([2.0, 2.0]))
    assert float(value[0]) == 1.0 and float(low[0]) == 0.5 and float(high[0]) == 1.5


def test_prompts_of_a_file() -> None:
    assert read_prompts("import os\n\nx = 1\n") == ["import os", "x = 1"]
    assert read_prompts('{"prompt": "a"}\n"b"\n') == [{"prompt": "a"}, "b"]
    for bad in ('{"prompt": 1\n', '"a"\n3\n'):
        with pytest.raises(InputError, match="line"):
            read_prompts(bad)
