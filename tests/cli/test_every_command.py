"""Every command: its help, its one JSON document, and what it never writes to stdout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tokenscope.cli import run
from tokenscope.cli.commands import app
from tokenscope.evidence.learnt import Learnt, Rival
from tokenscope.runs import model as models
from tokenscope.runs.likelihood import FEATURES

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CODE = "def add(a, b):\n    return a + b\n"

# one call of each that prints JSON; {t} is a saved trace, {f} a source file, {d} an empty folder
EXAMPLES: dict[str, list[str]] = {
    "generate": ["generate", "def f", "-n", "3"],
    "infill": ["infill", "def mean(xs):", "    return total", "-n", "3"],
    "score": ["score", "{f}"],
    "fork": ["fork", "{t}", "--at", "5", "--alternative", "2", "-n", "3"],
    "tree": ["tree", "{t}", "{t}"],
    "show": ["show", "{t}", "--at", "5"],
    "models": ["models"],
    "plan": ["plan"],
    "explain": ["explain", "{t}", "--at", "5", "--method", "attention_mean"],
    "patch": ["patch", "for i in", "--corrupt", "for k in", "--part", "residual"],
    "ablate": ["ablate", "for i", "--paths", "2"],
    "lens": ["lens", "show", "for i", "--data", "{d}"],
    "heads": ["heads", "--draws", "1", "--length", "8"],
    "structure": ["structure", "{f}"],
    "explore": ["explore", "def f", "--width", "2", "--depth", "1", "--horizon", "3"],
    "ledger": ["ledger", "{f}", "--arm", "a={d}/e.toml", "-n", "2"],
    "compare": ["compare", "{t}", "{t}"],
    "audit": ["audit", "{f}", "--out", "{d}/audit"],
    "rules": ["rules"],
    "likelihood": ["likelihood", "{f}", "--learnt", "{d}/learnt.json"],
    "invented": ["invented", "{f}", "--limit", "0.5"],
    "learn-edits": ["learn-edits", "--files", "0", "--pairs", "{d}/p.jsonl", "--out", "{d}/l.json"],
    "records": ["records", "--data", "{d}/store", "--new-key"],
    "verify": ["verify", "--data", "{d}/store"],
    "bom": ["bom"],
    "replay": ["replay", "{t}"],
    "bench": ["bench", "fork", "--forks", "2", "--prompt-tokens", "16", "--tail-tokens", "2"],
    "doctor": ["doctor", "--data", "{d}"],
    "backup": ["backup", "{d}/all.tar", "--data", "{d}/store"],
    "purge": ["purge", "--data", "{d}/store"],
    "restore": ["restore", "{d}/all.tar", "--data", "{d}/copy"],
}
ELSEWHERE = {"serve", "chat", "completion"}  # tests/server; test_branches.py; prints a script


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("every")
    (folder / "a.py").write_text(CODE)
    (folder / "e.toml").write_text('[[edit]]\nkind = "ban_text"\nstrings = ["return"]\n')
    pairs = []
    for n in range(26):
        code = f"def f{n}(a, b):\n    c = a + {n}\n    return c - b\n"
        after = code.replace("-", "+") if n < 22 else code
        pairs.append(json.dumps({"before": code, "after": after, "file": str(n)}))
    (folder / "p.jsonl").write_text("\n".join(pairs))
    model = models.load()
    model.generate("def f(x):", max_new_tokens=6).save(folder / "a.trace")
    n = len(FEATURES)
    Learnt(
        "m", model.info.model_digest, FEATURES, (0.0,) * n, (1.0,) * n, (0.1,) * (n + 1),
        ((-9.0, 0.1), (9.0, 0.9)), 40, 20, 10, 0.5, 0.5, 0.0, (),
        (Rival("surprisal", 0.5, 0.5, 0.0, -0.1, 0.1),),
    ).save(folder / "learnt.json")  # fmt: skip
    model.close()
    from tokenscope.store import Store

    Store(folder / "store").close()
    return {"t": str(folder / "a.trace"), "f": str(folder / "a.py"), "d": str(folder)}


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch, bundled: models.Model) -> None:
    """One model for all of them; closing it is left out, as the next one needs it."""
    monkeypatch.setattr(models, "load", lambda *_, **__: bundled)
    monkeypatch.setattr(models.Model, "close", lambda _: None)


def test_all_of_them_are_here() -> None:
    assert set(EXAMPLES) | ELSEWHERE == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: tokenscope {name}") and err == ""
    known = {o for p in COMMANDS[name].params for o in p.opts if o.startswith("--")}
    assert [o for o in known if o not in out] == []
    assert not [line for line in out.splitlines() if len(line) > 100]


@pytest.mark.parametrize("name", EXAMPLES)
def test_json_is_one_document(
    name: str, capsys: pytest.CaptureFixture[str], places: dict[str, str]
) -> None:
    arguments = [a.format(**places) for a in EXAMPLES[name]]
    assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    made = json.loads(out)  # one document, nothing before or behind it
    assert isinstance(made, (dict, list)) and made
    assert out.isascii(), "no character of a model's reaches a terminal as it is"


def test_help_and_completion_need_no_library() -> None:
    script = (
        "import sys; from tokenscope.cli import run; run(['--help']); run(['fork', '--help'])\n"
        "import os; os.environ['_TOKENSCOPE_COMPLETE'] = 'complete_bash'\n"
        "os.environ |= {'COMP_WORDS': 'tokenscope fo', 'COMP_CWORD': '1'}\n"
        "try: run([])\nexcept SystemExit: pass\n"
        "sys.exit(str([m for m in ('numpy', 'torch', 'pandas', 'rich') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert done.stdout.splitlines()[-1] == "fork"


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_completion_in_a_real_bash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The script that is printed, sourced, completes a command and an option of one."""
    assert run(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "tokenscope").write_text(f'#!/bin/sh\nexec {sys.executable} -m tokenscope "$@"\n')
    (tmp_path / "tokenscope").chmod(0o755)
    ask = (
        "source ./script; PATH=.:$PATH; COMP_WORDS=(tokenscope {words}); COMP_CWORD={n};"
        ' _tokenscope_completion tokenscope; echo "${{COMPREPLY[*]}}"'
    )
    for words, n, found in (("ge", 1, "generate"), ("fork --alternative", 2, "--alternative")):
        done = subprocess.run(
            ["bash", "-c", ask.format(words=words, n=n)], cwd=tmp_path, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert found in done.stdout.split(), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"_TOKENSCOPE_COMPLETE=complete_{shell}" in capsys.readouterr().out
