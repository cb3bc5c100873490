"""An evaluation harness as it is: EleutherAI's lm-eval over `/v1/completions`, recorded.

It brings a hundred packages along, so it lives in an environment of its own and is tried where one
is given: ``TOKENSCOPE_LM_EVAL`` names its ``lm_eval`` (made by ``pip install "lm-eval[api]"
transformers``).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.server.test_recorder import KEY, branches
from tokenscope.runs.model import Model, load
from tokenscope.server.models import Models
from tokenscope.server.recorder.state import Recorder

if TYPE_CHECKING:
    from conftest import Served

HARNESS = os.environ.get("TOKENSCOPE_LM_EVAL", "")
pytestmark = pytest.mark.skipif(
    not HARNESS, reason="TOKENSCOPE_LM_EVAL does not name an lm_eval (lm-eval[api], transformers)"
)
CASES = [
    {"q": "def square(x):\n    return", "choices": [" x * x", " x + x", " print(x)"], "a": 0},
    {"q": "for i in range(", "choices": ["10", "import", "class"], "a": 0},
    {"q": "import os\nos.path.", "choices": ["banana", "join"], "a": 1},
]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
target_delimiter: ""
doc_to_text: "{{{{q}}}}"
"""
CHOICE = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{a}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
WRITE = """
output_type: generate_until
doc_to_target: "{{choices[a]}}"
generation_kwargs: {until: ["\\n"], do_sample: false, temperature: 0.0, max_gen_toks: 8}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def test_a_harness_gets_the_models_own_numbers_and_every_request_is_a_branch(
    serve: Callable[..., Served], bundled: Model, tmp_path: Path
) -> None:
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps(CASES))
    for name, kind in (("choose", CHOICE), ("write", WRITE)):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, file=cases) + kind)
    served = serve(models=Models.of_one(load()), recorder=KEY, house={"recorder": Recorder()})
    given = {
        "model": "tokenscope", "base_url": f"{served.address}/v1/completions",
        "tokenizer_backend": "huggingface", "tokenizer": bundled.info.path,
        "tokenized_requests": True, "num_concurrent": 2, "max_retries": 1,
    }  # fmt: skip
    done = subprocess.run(
        [HARNESS, "run", "--model", "local-completions", "--include_path", str(tmp_path),
         "--tasks", "choose,write", "--log_samples", "--output_path", str(tmp_path / "out"),
         "--model_args", ",".join(f"{k}={v}" for k, v in given.items())],
        env={**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    samples = {
        name: [json.loads(line) for file in (tmp_path / "out").rglob(f"samples_{name}_*.jsonl")
               for line in file.read_text().splitlines()]
        for name in ("choose", "write")
    }  # fmt: skip
    module = bundled.backend.model  # type: ignore[attr-defined]
    encode = lambda text: [int(i) for i in bundled.backend.encode(text, bos=False).ids]
    for case, sample in zip(CASES, samples["choose"], strict=True):
        question = str(case["q"])
        for choice, answer in zip(case["choices"], sample["resps"], strict=True):  # type: ignore[call-overload]
            ids, start = encode(question + choice), len(encode(question))
            with torch.no_grad():
                logits = module(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            want = sum(float(logits[t - 1, ids[t]]) for t in range(start, len(ids)))
            assert float(answer[0][0]) == pytest.approx(want, abs=2e-3)
    for case, sample in zip(CASES, samples["write"], strict=True):
        given_ids = torch.tensor([encode(str(case["q"]))])
        out = module.generate(given_ids, max_new_tokens=8, do_sample=False)[0, given_ids.shape[1] :]
        made = b"".join(bundled.backend.piece(int(i)) for i in out).decode(errors="replace")
        assert sample["resps"][0][0] == made.split("\n")[0]
    assert served.idle()
    assert len(branches(served)) == sum(len(c["choices"]) for c in CASES) + len(CASES)  # type: ignore[arg-type]
