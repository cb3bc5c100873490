"""Drift: none against itself, the measured one against another build, the same by a second way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import tokenscope as ts
from tokenscope.errors import InputError
from tokenscope.runs.drift import drift_of

CODE = "def area(r):\n    return 3.14 * r ** 2  # of a circle\n"


@pytest.fixture(scope="module")
def halved() -> ts.Model:
    return ts.load(dtype="bfloat16")


def test_a_model_against_itself_shows_exactly_none(bundled: ts.Model) -> None:
    again = ts.load()
    trace = bundled.score(CODE)
    for other in (bundled, again):
        made = drift_of(bundled, other, trace, "python")
        assert len(made["kl"]) == len(trace) - 1
        assert set(made["kl"]) == {0.0} and set(made["flips"]) == {0}
    again.close()


def test_drift_is_that_of_transformers_own_distributions(
    bundled: ts.Model, halved: ts.Model
) -> None:
    trace = bundled.score(CODE)
    made = drift_of(halved, bundled, trace, "python")
    ids = torch.tensor([trace.ids.tolist()])
    logs = []
    for dtype in (torch.float32, torch.bfloat16):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            bundled.path, dtype=dtype, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            logs.append(torch.log_softmax(model(ids).logits[0].double(), -1).numpy())
    p, q = logs[0][:-1], logs[1][:-1]
    want = (np.exp(p) * (p - q)).sum(1)
    # 16 bits round differently wherever sums are cut differently: as large, not the same
    assert want.mean() / 2.5 < np.mean(made["kl"]) < 2.5 * want.mean()
    assert 1e-7 < np.mean(made["kl"]) < 0.05
    assert "identifier" in made["categories"] and "comment" in made["categories"]


def test_an_audit_gates_drift(bundled: ts.Model, halved: ts.Model, tmp_path: Path) -> None:
    policy = {"gates": ["drift.kl.max <= 0.5", "drift.flips <= 0.5"], "checks": ["syntax"]}
    prompts = ["def area(r):\n    return ", "import os\n"]
    made = ts.audit(prompts, model=halved, baseline=bundled, policy=policy, out=tmp_path,
                    max_new_tokens=8)  # fmt: skip
    assert made.state == "passed" and 0.0 < made.figure("drift.kl.max").value < 0.5
    assert made.figure("drift.flips").n == 16
    assert "Drift from the baseline" in (tmp_path / "report.html").read_text()
    same = ts.audit(prompts, model=bundled, baseline=bundled, max_new_tokens=8,
                    policy={"gates": ["drift.kl.max <= 0"]})  # fmt: skip
    assert same.state == "passed" and same.figure("drift.kl.max").value == 0.0


def test_another_tokenizer_is_refused(
    bundled: ts.Model, halved: ts.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = replace(halved.backend.info, tokenizer_digest="another")
    monkeypatch.setattr(halved.backend, "info", told)
    with pytest.raises(InputError, match="another tokenizer"):
        ts.audit(["x"], model=bundled, baseline=halved, max_new_tokens=1)
