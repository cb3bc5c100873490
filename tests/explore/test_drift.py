"""One text under two models: columns, flips and categories against forwards made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tokenscope as ts
from tokenscope.backends.hf.load import BUNDLED
from tokenscope.cli.commands import run
from tokenscope.errors import AbilityError
from tokenscope.runs.model import Model
from tokenscope.trace import Alternatives, trace_of

TEXT = """import os


def total(xs):
    # adds
    n = 0
    for x in xs:
        n += x
    return n
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The bundled model with a little noise on one layer."""
    folder = tmp_path_factory.mktemp("noisy") / "model"
    shutil.copytree(BUNDLED, folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    held = tensors[name].float()
    noise = torch.randn(held.shape, generator=torch.Generator().manual_seed(0))
    tensors[name] = (held + held.std() * noise).to(tensors[name].dtype)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return ts.load(folder)


def test_drift_is_that_of_two_forwards(bundled: Model, other: Model) -> None:
    found = ts.compare_models(bundled, other, TEXT)
    moved = found.drift(["surprisal"])
    ids = torch.tensor([bundled.backend.encode(TEXT).ids.tolist()])  # type: ignore[attr-defined]
    rows = []
    for model in (bundled, other):
        with torch.no_grad():
            logits = model.backend.model(input_ids=ids, use_cache=False).logits[0]  # type: ignore[attr-defined]
        rows.append(torch.log_softmax(logits.double(), -1)[:-1])
    p, q = rows
    want = (p.exp() * (p - q)).sum(-1).numpy()
    kl = moved.trace.column("kl_between")
    known = np.isfinite(kl)  # the start token has no bytes: the first word stands with it
    assert known[2:].all() and np.abs(kl[2:] - want[1:]).max() < 1e-4 and moved.exact
    at = ids[0, 1:, None]
    gap = (p - q).gather(1, at)[:, 0].numpy()
    assert np.abs(moved.trace.column("surprisal_difference")[2:] - gap[1:]).max() < 1e-4
    clear = ((p.topk(2).values[:, 0] - p.topk(2).values[:, 1]) > 1e-3).numpy()
    flag = moved.trace.column("flip")[2:]
    assert (flag == (p.argmax(-1) != q.argmax(-1)).numpy()[1:])[clear[1:]].all()
    assert moved.places == len(kl) - 2 and len(moved.flips) == int(flag.sum()) > 0
    assert sum(r["cells"] for r in moved.categories) == len(kl) - 1
    assert sum(r["flips"] for r in moved.categories) == len(moved.flips)
    comment = next(r for r in moved.categories if r["category"] == "comment")
    inside = [
        t
        for t in range(len(kl))
        if TEXT.index("#") <= found.a.tokens.offsets[t] < TEXT.index("\n    n =")
    ]
    mean = found.a.column("surprisal")[inside].astype(np.float64).mean()
    assert comment["surprisal_a"] == pytest.approx(float(mean), abs=1e-5)


def test_two_tokenizers_share_a_cell_by_bytes_and_flip_where_neither_begins_the_other() -> None:
    def alternatives(*best: bytes) -> Alternatives:
        ids = np.array([[-1], *([n] for n in range(len(best)))])
        logprobs = np.array([[-np.inf], *([-0.5] for _ in best)])
        return Alternatives(ids, logprobs, dict(enumerate(best)))

    a = trace_of([1, 2, 3], [b"de", b"f", b" f(x)"], 0, surprisal=[np.nan, 1, 2])
    b = trace_of([7, 8, 9], [b"def", b" f(", b"x)"], 0, surprisal=[np.nan, 4, 5])
    object.__setattr__(a, "alternatives", alternatives(b"f", b" fo"))
    object.__setattr__(b, "alternatives", alternatives(b" f", b"y"))
    object.__setattr__(b.origin, "tokenizer_digest", "another")
    found = ts.compare(a, b)
    assert [(c.a, c.b) for c in found.cells] == [((0, 2), (0, 1)), ((2, 3), (1, 3))]
    moved = found.drift(["surprisal"])
    assert moved.trace.column("surprisal_difference")[2] == pytest.approx(9 - 2)
    assert moved.trace.column_of("surprisal_difference").quality == "estimate"
    assert (moved.places, moved.flips) == (1, ()), "' f' begins ' fo'"
    back = ts.compare(b, a).drift(["surprisal"])
    assert back.trace.column("surprisal_difference")[1:].tolist() == pytest.approx([-4.2, -2.8])
    object.__setattr__(b, "alternatives", alternatives(b" g", b"y"))
    (flip,) = ts.compare(a, b).drift(["surprisal"]).flips
    assert (flip.t, flip.byte, flip.a, flip.b) == (2, 3, b" fo", b" g")
    with pytest.raises(AbilityError, match="differ"):
        ts.compare(a, a.cut(2)).drift()


def test_the_command_compares_number_types(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.py"
    file.write_text(TEXT)
    options = ["--text", str(file), "--dtypes", "float32,bfloat16", "--json"]
    assert run(["models", "compare", "bundled", *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [m["dtype"] for m in told["models"]] == ["float32", "bfloat16"]
    assert told["exact"] and 0 < told["mean_apart"]["kl"] < 0.01 and told["places"] > 20
    assert run(["models", "compare", "bundled", "--text", str(file)]) == 2
