"""The command line: what goes to stdout, what to stderr, and the exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

import tokenscope
from tokenscope.backends.scripted import ScriptedBackend, hashed, saying
from tokenscope.cli import output, run
from tokenscope.errors import InputError
from tokenscope.runs import model as models

CODE = 'def f(x):\n    return "\u202e\x1b[31mred" # tab\there\n'


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command loads the scripted backend, which goes on with CODE."""
    monkeypatch.setattr(
        models, "load", lambda *_, **__: models.Model(ScriptedBackend(saying(CODE)))
    )


def the_json(capsys: pytest.CaptureFixture[str]) -> Any:
    """stdout as one JSON document."""
    return json.loads(capsys.readouterr().out)


def test_generate_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "def f", "--json", "-n", "5", "--alternatives", "3"]) == 0
    found = the_json(capsys)
    assert found["text"] == "def f(x):\n"
    assert found["finish"] == "length"
    assert found["tokens"][7]["alternatives"][0]["chosen"]
    assert found["columns"]["entropy"]["values"][0] is None


def test_generate_paints_what_is_safe_to_see(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "def f"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith('(x):\n    return "<U+202E>\u241b[31mred" # tab')
    assert out.endswith('" # tab\there\n')  # what was written alone: no special token, no legend
    assert "\x1b" not in out  # not a terminal: no colours, and none that the model made up
    assert "Surprisal" not in out + err
    assert "ended by: eos" in err


def test_colours_only_on_a_terminal_that_wants_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["generate", "def f", "-n", "3"]) == 0
    shown = capsys.readouterr()
    assert "\x1b[" in shown.out
    assert "Surprisal  0" in shown.err and "nats" in shown.err and "nats" not in shown.out
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["generate", "def f", "-n", "3"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[3" not in out
    assert "\x1b[4" not in out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tokenscope {tokenscope.__version__}\n"


def test_what_is_wrong_is_refused_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(models, "load", load)
    (tmp_path / "a.py").write_text("x = 1\n")
    source, nowhere = str(tmp_path / "a.py"), str(tmp_path / "no" / "t.trace")
    for arguments, said in [
        (["generate", "x", "--column", "entropie"], "known:"),
        (["generate", "x", "--language", "cobol"], "unknown name 'cobol'"),
        (["generate", "x", "--save", nowhere], "no folder 'no'"),
        (["generate", "x", "--save", str(tmp_path)], "it is a folder"),
        (["score", source, "--save", nowhere], "no folder 'no'"),
        (["score", source, "-c", "entropie"], "unknown name 'entropie'"),
        (["structure", source, "-c", "entropie"], "unknown name 'entropie'"),
        (["structure", source, "--by", "word"], "unknown name 'word'"),
        (["structure", source, "--out", nowhere], "no folder 'no'"),
        (["models", "--model-root", nowhere], "is no folder"),
    ]:
        assert run(arguments) == 2, arguments
        assert said in capsys.readouterr().err, arguments


def test_a_table_is_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({f"column_{i}": [1.0, 22.5] for i in range(12)})
    output.table(frame)
    assert len(capsys.readouterr().out.splitlines()[0].split()) == 12  # a file gets all
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.table(frame)
    out, err = capsys.readouterr()
    assert all(len(line) <= 50 for line in out.splitlines())
    assert out.split()[0] == "column_0"
    assert "column_11" in err


def test_score_measures_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    assert run(["score", str(tmp_path / "a.py"), "--json"]) == 0
    found = the_json(capsys)
    assert (found["text"], found["finish"]) == ("x = 1\n", "scored")


def test_a_prompt_from_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"def f")))
    assert run(["generate", "-", "-n", "1", "--json"]) == 0
    assert the_json(capsys)["text"] == "def f("


def test_a_trace_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    assert run(["generate", "def f", "-n", "2", "--save", str(path), "--json"]) == 0
    assert tokenscope.read(path).text == "def f(x"


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate"],
        ["generate", ""],
        ["generate", "x" * 1_000_000],
        ["generate", "a\udcff"],
        ["generate", "a", "--temperature", "nan"],
        ["generate", "a", "--temperature", "x"],
        ["generate", "a", "--top-p", "0"],
        ["generate", "a", "--attention", "some"],
        ["generate", "a", "--stop", ""],
        ["generate", "a", "--column", "none"],
        ["generate", "a", "--save", "/nowhere/t"],
        ["generate", "a", "-f", "b"],
        ["generate", "-f", "/nowhere"],
        ["generate", "-f", "/"],
        ["generate", "a", "--suffix", "b"],
        ["score", "--unknown"],
        ["score", "/nowhere"],
        ["score", "a.py", "--text", "x"],
        ["bench", "nothing"],
        ["nothing"],
        ["serve", "--host", "0.0.0.0"],
        ["serve", "--port", "99999"],
        ["serve", "--tls-cert", "x"],
    ],
    ids=lambda a: " ".join(a)[:50].encode("ascii", "replace").decode(),
)
def test_bad_input_is_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path
) -> None:
    if arguments[0] == "serve":
        arguments += ["--data", str(tmp_path)]
    assert run([*arguments]) == 2
    err = capsys.readouterr().err
    assert "error: " in err
    assert "Traceback" not in err
    assert len(err) < 1000
    if arguments != ["generate", "a", "--column", "none"]:  # shows in colour only
        assert run([*arguments, "--json"]) == 2
        assert set(the_json(capsys)["error"]) == {"code", "message"}


def test_a_held_data_folder_is_exit_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tokenscope.store import Store

    store = Store(tmp_path)
    assert run(["serve", "--data", str(tmp_path), "--port", "0"]) == 3
    assert "is held by another program" in capsys.readouterr().err
    store.close()


def test_models_lists_the_bundled_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TOKENSCOPE_MODELS", str(tmp_path / "library"))
    for folder in ("root/a", "root/wordless", "hub/models--some--model/snapshots/1"):
        (tmp_path / folder).mkdir(parents=True)
        config = '{"architectures": ["TinyForCausalLM"], "model_type": "llama"}'
        (tmp_path / folder / "config.json").write_text(config)
        (tmp_path / folder / "tokenizer.json").write_text("{}")
        save_file({"x": np.zeros(3, np.float32)}, tmp_path / folder / "model.safetensors")
    (tmp_path / "root/wordless/tokenizer.json").unlink()
    (tmp_path / "root/broken").mkdir()
    (tmp_path / "root/broken/config.json").write_text("{")
    (tmp_path / "root/broken/tokenizer.json").write_text("{}")
    (tmp_path / "root/empty").mkdir()
    assert run(["models", "--json", "--model-root", str(tmp_path / "root")]) == 0
    found = the_json(capsys)
    kinds = ["bundled", "folder", "cache", "to fetch", "folder", "folder"]
    assert [m["kind"] for m in found] == kinds
    assert [m["reason"] is None for m in found] == [True] * 4 + [False] * 2
    assert {Path(m["path"]).name for m in found[4:]} == {"broken", "wordless"}
    assert run(["models", "--model-root", str(tmp_path / "root")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cannot be loaded: " in lines[4] and "is no JSON" in lines[4]
    assert "tokenizer" in lines[5]
    assert found[2]["address"] == "some/model"


def test_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["doctor", "--json", "--data", str(tmp_path / "data")]) == 0
    found = the_json(capsys)
    assert found["ok"]
    whats = [c["what"] for c in found["checks"]]
    assert {"python", "torch", "memory", "browser", "page", "bundled model"} <= {*whats}
    assert not (tmp_path / "data").exists()


def test_doctor_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("weights are gone")

    monkeypatch.setattr(models, "load", broken)
    assert run(["doctor"]) == 3
    assert "fail  bundled model" in capsys.readouterr().out


def test_an_interrupt_shows_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(ids: Any) -> Any:
        if len(ids) == 12:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, in the middle of a step
        logits = hashed(ids)
        logits[256] = -50.0
        return logits

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(models, "load", lambda *_, **__: models.Model(ScriptedBackend(script)))
    assert run(["generate", "def f", "-n", "2000", "--json"]) == 130
    found = the_json(capsys)
    assert found["finish"] == "cancelled"
    assert 12 <= len(found["tokens"]) <= 16
    assert signal.getsignal(signal.SIGINT) is before


def test_help_needs_no_torch() -> None:
    script = (
        "import sys; from tokenscope.cli import run; run(['--help']); run(['generate', '--help']);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_every_command_that_opens_a_model_takes_the_same_options() -> None:
    """One row in ``cli/options.py`` is an option of all of them."""
    import typer

    from tokenscope.cli.commands import app
    from tokenscope.cli.options import OPTIONS

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    opening = {n for n, c in commands.items() if "start_token" in {p.name for p in c.params}}
    assert {"serve", "generate", "score", "fork", "explain", "structure", "replay"} <= opening
    for name in opening:
        assert set(OPTIONS) <= {p.name for p in commands[name].params}, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "def f", "-n", "1"],
        ["score", "--text", "x"],
        ["structure", "a.py"],
        ["bench", "prefill", "--prompt-tokens", "8", "--pairs", "1"],
        ["patch", "a", "--corrupt", "b"],
        ["heads"],
    ],
    ids=lambda a: a[0],
)
def test_how_a_model_is_opened_reaches_it(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def load(address: str | None, **options: Any) -> Any:
        asked.append({"address": address, **options})
        raise InputError("model", "enough is known")

    monkeypatch.setattr(models, "load", load)
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("x = 1\n")
    assert run([*arguments, "--model", "m", "--start-token", "never", "--allow-links"]) == 2
    want = {
        "address": "m", "dtype": None, "device": None, "allow_network": False, "root": None,
        "start_token": "never", "allow_links": True,
    }  # fmt: skip
    assert len(asked) == 1
    assert {name: asked[0][name] for name in want} == want


def test_invented_names_have_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.py"
    file.write_text("import os\nimport mine\n")
    ask = ["invented", str(file), "--most", "4", "--project", "mine", "--json"]
    assert run([*ask, "--limit", "1"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert (held["over"], held["undecided"]) == (0, 0) and len(held["places"]) == 2
    upper = [place["upper"] for place in held["places"]]
    assert upper == sorted(upper, reverse=True)
    # between the bounds of the worst place nothing is decided, below them it is over
    worst = held["places"][0]
    assert run([*ask, "--limit", str((worst["lower"] + worst["upper"]) / 2)]) == 1
    assert json.loads(capsys.readouterr().out)["undecided"] == 1
    assert run([*ask, "--limit", "0"]) == 1
    assert json.loads(capsys.readouterr().out)["over"] == 2
    assert run([*ask, "--project", "not a name"]) == 2
