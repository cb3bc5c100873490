"""What the terminal can do with traces: branches, trees, conversations, infill, export."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from pyarrow import feather

import tokenscope as ts
from tokenscope.backends.hf.load import BUNDLED
from tokenscope.cli import run
from tokenscope.cli.branch import lines
from tokenscope.runs import model as models

TEMPLATE = (
    "{% for m in messages %}# {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}# assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> models.Model:
    """The bundled model with a chat template."""
    folder = tmp_path_factory.mktemp("talking") / "model"
    shutil.copytree(BUNDLED, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return models.load(folder)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch, talking: models.Model, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "load", lambda *_, **__: talking)
    monkeypatch.chdir(tmp_path)


def made(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_branch_is_that_of_the_python_face(
    capsys: pytest.CaptureFixture[str], talking: models.Model
) -> None:
    made(capsys, "generate", "def f(x):", "-n", "8", "--temperature", "0.9", "--seed", "5",
         "--save", "a.trace")  # fmt: skip
    base = ts.read("a.trace")
    at = base.n_prompt + 2
    assert base.alternatives is not None
    wanted = int(base.alternatives.ids[at][3])
    found = made(capsys, "fork", "a.trace", "--at", str(at), "--alternative", "4",
                 "--save", "b.trace")  # fmt: skip
    again = talking.fork(base, at, wanted, max_new_tokens=8, temperature=0.9, seed=5)
    assert [t["id"] for t in found["tokens"]] == again.ids.tolist()
    branch = ts.read("b.trace")
    assert branch.attention is not None, "the terminal records what the Python face records"
    assert branch.ids[:at].tolist() == base.ids[:at].tolist() and branch.ids[at] == wanted
    settings = branch.origin.segment(len(branch) - 1)
    assert settings is not None and (settings.seed, settings.sampler["temperature"]) == (5, 0.9)
    greedy = made(capsys, "fork", "a.trace", "--at", str(at), "--token", f"#{wanted}",
                  "--temperature", "0", "-n", "2")  # fmt: skip
    assert len(greedy["tokens"]) == at + 1 + 2


def test_stdout_is_the_continuation_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = made(capsys, "generate", "def f(x):", "-n", "8", "--save", "a.trace")
    text = found["text"][len("def f(x):") :]
    for arguments in (["generate", "def f(x):", "-n", "8"], ["show", "a.trace"]):
        assert run(arguments) == 0
        out, err = capsys.readouterr()
        assert out == text if text.endswith("\n") else out == text + "\n"
        assert "8 tokens after" in err
    assert run(["generate", "def f(x):", "-n", "8", "--whole"]) == 0
    assert capsys.readouterr().out.startswith("def f(x):" + text)
    listed = found["tokens"][9]["alternatives"]
    for token in (listed[1]["text"], " zebra"):  # one that was measured, and one that is given
        branch = made(capsys, "fork", "a.trace", "--at", "9", "--token", token)
        assert run(["fork", "a.trace", "--at", "9", "--token", token]) == 0
        own = branch["text"][len("def f(x):") :]
        assert token in own and capsys.readouterr().out.rstrip("\n") == own.rstrip("\n")


def test_infill_of_a_file_with_a_hole(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = "def mean(xs):\n", "\n    return total / len(xs)\n"
    Path("a.py").write_text(f"{before}<HOLE>{after}")
    alone = made(capsys, "infill", before, after, "-n", "6")
    assert run(["infill", "-f", "a.py", "-n", "6", "--whole"]) == 0
    middle = "".join(t["text"] for t in alone["tokens"][alone["n_prompt"] :] if not t["special"])
    assert capsys.readouterr().out == before + middle + after
    for wrong in (["--hole", "<GAP>"], ["--hole", "e"], ["--hole", ""]):
        assert made(capsys, "infill", "-f", "a.py", *wrong, code=2)["error"]["code"] == "bad_input"
    assert "PREFIX" in made(capsys, "infill", before, code=2)["error"]["message"]


def test_a_tree_out_of_files_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "generate", "def f(x):", "-n", "6", "--save", "base.trace")
    made(capsys, "fork", "base.trace", "--at", "8", "--token", " y", "--save", "one.trace")
    made(capsys, "fork", "one.trace", "--at", "10", "--token", " z", "--save", "two.trace")
    made(capsys, "fork", "base.trace", "--at", "9", "--token", " w", "--save", "three.trace")
    made(capsys, "score", "--text", "import os", "--save", "other.trace")
    files = [f"{n}.trace" for n in ("two", "one", "three", "base", "other")]
    rows = made(capsys, "tree", *files)["branches"]
    assert {r["name"]: r["parent"] for r in rows} == {
        "base": None, "one": "base", "two": "one", "three": "base", "other": "base",
    }  # fmt: skip
    two = next(r for r in rows if r["name"] == "two")
    assert (two["at"], two["own"], two["depth"]) == (10, " z", 2)
    branch = ts.read("two.trace")
    own = branch.column("logprob")[10:].astype(np.float64)
    assert two["joint_logprob"] == pytest.approx(float(np.nansum(own)))
    assert two["mean_surprisal"] == pytest.approx(float(-np.nanmean(own)))
    assert run(["tree", *files]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  at")[0] for line in shown if "two  at" in line] == ["│  └─ two"]
    assert len(shown) == 5


def test_how_a_tree_is_drawn() -> None:
    def row(name: str, depth: int) -> dict[str, Any]:
        return {"name": name, "depth": depth, "parent": "x" if depth else None, "at": 1, "own": "a",
                "instead": "b", "tokens": 1, "mean_surprisal": None, "text": ""}  # fmt: skip

    drawn = lines([row(n, d) for n, d in (("r", 0), ("a", 1), ("b", 2), ("c", 3), ("d", 1),
                                          ("e", 2), ("s", 0))])  # fmt: skip
    assert [line.split("  at")[0].split("  (")[0] for line in drawn] == [
        "r", "├─ a", "│  └─ b", "│     └─ c", "└─ d", "   └─ e", "s",
    ]  # fmt: skip


def test_a_conversation_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(capsys, "chat", "write f", "--system", "be brief", "-n", "4", "--save", "1.trace")
    assert first["text"].startswith("# system: be brief\n# user: write f\n# assistant: ")
    assert run(["generate", "write f", "--chat", "--system", "be brief", "-n", "4"]) == 0
    answer = ts.read("1.trace").generated
    assert capsys.readouterr().out.rstrip("\n") == answer.rstrip("\n")
    second = made(capsys, "chat", "now g", "--after", "1.trace", "-n", "4", "--save", "2.trace")
    messages = [(m["role"], m["content"]) for m in second["origin"]["request"]["messages"]]
    assert messages == [
        ("system", "be brief"), ("user", "write f"), ("assistant", answer), ("user", "now g"),
    ]  # fmt: skip
    made(capsys, "generate", "x", "-n", "1", "--save", "plain.trace")
    assert "no trace of a chat" in made(capsys, "chat", "x", "--after", "plain.trace", code=2)[
        "error"]["message"]  # fmt: skip
    assert "give a message" in made(capsys, "chat", code=2)["error"]["message"]


def test_a_conversation_line_by_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = io.StringIO("write f\n\nnow g\n")
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", typed)
    assert run(["chat", "-n", "4", "--save", "talk.trace"]) == 0
    out, err = capsys.readouterr()
    held = ts.read("talk.trace")
    assert held.origin.request.messages is not None
    assert [m["role"] for m in held.origin.request.messages] == ["user", "assistant", "user"]
    assert err.count("> ") == 4 and out.count(held.generated) >= 1  # an empty line is asked again


def test_no_chat_without_a_template(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bundled: models.Model
) -> None:
    monkeypatch.setattr(models, "load", lambda *_, **__: bundled)
    assert made(capsys, "chat", "x", code=2)["error"]["code"] == "no_ability"


def test_a_token_and_the_files_of_other_programs(capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "generate", "x = '=1'\n", "-n", "5", "--save", "a.trace")
    held = ts.read("a.trace")
    one = made(capsys, "show", "a.trace", "--at", "6")
    assert one["id"] == int(held.ids[6])
    assert one["columns"]["entropy"] == pytest.approx(float(held.column("entropy")[6]))
    assert run(["show", "a.trace", "--at", "6"]) == 0
    assert "entropy" in capsys.readouterr().out
    for name in ("a.parquet", "a.arrow", "a.csv", "a.json"):
        assert run(["show", "a.trace", "--out", name]) == 0
    table = parquet.read_table("a.parquet")
    assert json.loads(table.schema.metadata[b"tokenscope.origin"]) == held.origin.to_json()
    for frame in (table.to_pandas(), feather.read_feather("a.arrow"), pd.read_csv("a.csv")):
        assert frame["id"].tolist() == held.ids.tolist()
        np.testing.assert_allclose(frame["surprisal"], held.column("surprisal"), rtol=1e-6)
    assert held.alternatives is not None
    third = table["alternatives"][6].as_py()[2]
    assert third["id"] == int(held.alternatives.ids[6][2])
    assert json.loads(Path("a.json").read_text())["text"] == held.text
    assert not [t for t in pd.read_csv("a.csv")["text"] if str(t).startswith("=")]
    for more in (["show", "a.trace", "--html", "a.html", "--picture", "heads"],
                 ["tree", "a.trace", "--html", "a.html"],
                 ["explain", "a.trace", "--at", "6", "--html", "a.html",
                  "--method", "attention_mean"]):  # fmt: skip
        assert run(more) == 0
        assert Path("a.html").read_text().startswith("<!doctype html>")
        Path("a.html").unlink()
    capsys.readouterr()
    for wrong in (
        ["--html", "no/a.html"],
        ["--html", "a.html", "--picture", "x"],
        ["--out", "a.xls"],
        ["--out", "no/a.csv"],
        ["--at", "99"],
        ["-c", "none"],
    ):
        made(capsys, "show", "a.trace", *wrong, code=2)


def test_what_is_wrong_with_a_branch_is_refused_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(capsys, "generate", "x = ", "-n", "4", "--save", "a.trace")
    Path("broken.trace").write_bytes(b"nothing")

    def load(*_: Any, **__: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(models, "load", load)
    for arguments in (
        ["fork", "none.trace", "--at", "3"],
        ["fork", "broken.trace", "--at", "3"],
        ["fork", "a.trace", "--at", "99"],
        ["fork", "a.trace", "--at", "3", "--alternative", "99"],
        ["fork", "a.trace", "--at", "3", "--alternative", "1", "--token", "x"],
        ["fork", "a.trace", "--at", "3", "--temperature", "-1"],
        ["fork", "a.trace", "--at", "3", "--save", "no/b.trace"],
        ["generate", "x", "--dtype", "float8"],
        ["generate", "x", "--start-token", "maybe"],
        ["generate", "x", "--suffix", "y", "--chat"],
        ["generate", "x", "--system", "y"],
        ["chat", "x", "--after", "none.trace"],
        ["chat", "x", "--attention", "some"],
        ["infill", "x"],
        ["explain", "a.trace", "--at", "3", "--method", "guess"],
        ["explain", "a.trace", "--at", "3", "--also", "guess"],
        ["explain", "a.trace", "--at", "99"],
        ["explain", "broken.trace", "--at", "3"],
        ["patch", "a", "--corrupt", "b", "--part", "neurons"],
        ["ablate", "a", "--how", "guess"],
        ["ablate", "a", "--reference", "none.txt"],
        ["lens", "fit", "none.txt"],
        ["structure", "a.trace", "--group", "guess"],
        ["replay", "none.trace"],
    ):
        assert made(capsys, *arguments, code=2)["error"]["message"], arguments
