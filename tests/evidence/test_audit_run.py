"""A whole audit with a real model: resumed, shared out, over prompts, code and a diff."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tokenscope as ts
from tests.evidence.test_cases import git
from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.cli.commands import run
from tokenscope.errors import InputError, MissingError
from tokenscope.evidence.policy import policy_of
from tokenscope.evidence.records import read_records
from tokenscope.runs.audit_case import seed_of

PROMPTS = [
    {"id": "shell", "prompt": "import os\ndef run(cmd):\n    os.system("},
    {"id": "fib", "prompt": "def fib(n):\n"},
    {"id": "hash", "prompt": "import hashlib\nh = hashlib.md5("},
]
SMALL = {"samples": 3, "max_new_tokens": 10}


def cases(folder: Path) -> list[dict[str, Any]]:
    """The journal but for what a clock could change."""
    return list(read_records(folder)[1])


def test_prompts_give_samples_with_their_own_seeds(bundled: ts.Model, tmp_path: Path) -> None:
    made = ts.audit(PROMPTS, model=bundled, out=tmp_path, **SMALL)
    assert len(made.samples) == 9 and made.exit_code == 0 and made.state == "no gates"
    assert list(made.samples["seed"][:3]) == [seed_of(0, "shell", n) for n in range(3)]
    found = made.findings[made.findings["case"] == "shell"]
    assert "bandit/B605" in set(found["rule"])
    for _, row in found[found["rule"] == "bandit/B605"].iterrows():
        record = next(c for c in cases(tmp_path) if c["case"] == "shell")
        sample = record["samples"][row["sample"]]
        trace = bundled.generate(
            PROMPTS[0]["prompt"], max_new_tokens=10, temperature=0.8, seed=sample["seed"],
            attention="none",
        )  # fmt: skip
        assert trace.text == sample["text"]  # another run with this seed is this sample
        assert trace.ids.tolist() == sample["tokens"]["ids"]
        o, (first, last) = trace.tokens.offsets, (row["first_token"], row["last_token"])
        assert o[first] <= row["start"] < o[first + 1] and o[last - 1] < row["end"] <= o[last]
        assert trace.text[row["start"] :].startswith("os.system(")
    assert made.figure("CWE-78.risk").n == 9
    assert "<iframe sandbox" in made._repr_html_()


def test_what_stands_in_the_prompt_alone_is_no_finding(bundled: ts.Model) -> None:
    prompt = "import pickle\nx = pickle.loads(y)\n\n"
    made = ts.audit([prompt], model=bundled, max_new_tokens=4, policy={"checks": ["bandit"]})
    assert len(made.findings) == 0


def test_code_is_measured_as_it_is(bundled: ts.Model, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("import os\nos.system(x)\n")
    (code / "b.go").write_text("package a\nvar c = &tls.Config{InsecureSkipVerify: true}\n")
    (code / "c.py").write_bytes(b"\xff\n")
    made = ts.audit(code, model=bundled, out=tmp_path / "out", formats=["jsonl"])
    assert made.exit_code == 2 and made.report.errors[0]["where"] == "c.py"
    assert {(r.case, r.rule) for r in made.findings.itertuples()} >= {
        ("a.py", "bandit/B605"), ("b.go", "go/tls-off"),
    }  # fmt: skip
    assert list(made.written) == ["jsonl"]
    first = cases(tmp_path / "out")[0]["samples"][0]
    trace = bundled.score("import os\nos.system(x)\n")
    assert first["tokens"]["surprisal"][1:] == pytest.approx(
        trace.column("surprisal")[1:].tolist(), abs=2e-5
    )


def test_a_diff_is_judged_where_it_changed(bundled: ts.Model, tmp_path: Path) -> None:
    repository = tmp_path / "r"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    (repository / "a.py").write_text("eval(a)\nx = 1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "a")
    (repository / "a.py").write_text("eval(a)\nx = 1\neval(b)\n")
    git(repository, "commit", "-qam", "b")
    made = ts.audit(repository, model=bundled, git_diff="HEAD~1..HEAD")
    assert set(made.findings["line"]) == {3}


def test_gates_decide_the_exit_code(bundled: ts.Model, tmp_path: Path) -> None:
    def code(gate: str, **more: Any) -> int:
        policy = policy_of({"gates": [gate], "checks": ["bandit"], **more})
        return ts.audit(
            [PROMPTS[1]["prompt"]], model=bundled, policy=policy, max_new_tokens=4
        ).exit_code  # fmt: skip

    assert code("bandit.count <= 0") == 0
    assert code("CWE-78.risk_upper <= 0.02") == 1  # one sample cannot show that
    assert code("surprisal.token.max <= 0") == 1
    assert ts.audit([PROMPTS[1]["prompt"]], model=bundled, max_new_tokens=2).exit_code == 0


def test_the_risk_mass_of_findings_reaches_every_report(bundled: ts.Model, tmp_path: Path) -> None:
    policy = {"checks": ["rules"], "risk": {"most": 24, "width": 4, "draws": 8}}
    made = ts.audit(PROMPTS[:1], model=bundled, policy=policy, out=tmp_path, **SMALL)
    risks = [r for c in cases(tmp_path) for s in c["samples"] for r in s["risks"]]
    assert len(risks) == len(made.findings["rule"].unique()) == 1
    (held,) = risks
    assert held["enumerated"][0] <= held["enumerated"][1] and 0 <= held["lower"] <= held["upper"]
    assert held["rule"] == "python/command-injection" and held["safe"] is not None
    (run,) = json.loads((tmp_path / "report.sarif").read_bytes())["runs"]
    fixed = [r for r in run["results"] if "fixes" in r]
    assert len(fixed) == 1
    (change,) = fixed[0]["fixes"][0]["artifactChanges"]
    assert change["replacements"][0]["insertedContent"]["text"] == held["safe"]["text"]
    assert "the likeliest way without it" in (tmp_path / "report.html").read_text()


def test_greedy_is_sampled_once(bundled: ts.Model) -> None:
    made = ts.audit([PROMPTS[1]], model=bundled, samples=5, temperature=0.0, max_new_tokens=3)
    assert len(made.samples) == 1


def test_the_policy_says_whether_a_bad_line_stops_it(bundled: ts.Model, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "x = "}\nbad\n{"prompt": "y = "}\n')
    with pytest.raises(InputError, match=r"p\.jsonl line 2: is not JSON"):
        ts.audit(file, model=bundled, policy={"on_error": "stop"}, max_new_tokens=2)
    for policy, exit_code in (({}, 2), ({"on_error": "skip"}, 0)):
        made = ts.audit(file, model=bundled, policy=policy, max_new_tokens=2)
        assert made.exit_code == exit_code and len(made.samples) == 2
        assert made.figure("error_rate").n == 3


def test_another_audit_in_the_folder_is_refused(bundled: ts.Model, tmp_path: Path) -> None:
    ts.audit(["x = "], model=bundled, out=tmp_path, max_new_tokens=2, formats=["jsonl"])
    with pytest.raises(InputError, match="another audit"):
        ts.audit(["x = "], model=bundled, out=tmp_path, max_new_tokens=3)
    with pytest.raises(InputError, match="another audit"):
        ts.audit(["y = "], model=bundled, out=tmp_path, max_new_tokens=2)
    made = ts.audit(["y = "], model=bundled, out=tmp_path, max_new_tokens=2, fresh=True)
    assert len(made.samples) == 1


def test_an_audit_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    prompts = [json.dumps({"prompt": f"def f{n}(x):\n"}) + "\n" for n in range(8)]
    (tmp_path / "p.jsonl").write_text("".join(prompts))
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, "4", "1"], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3  # one may have been done just before
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert cases(killed) == cases(whole) and len(cases(whole)) == 8
    reports = [(f / "report.jsonl").read_text().splitlines()[1:] for f in (killed, whole)]
    assert reports[0] == reports[1]


def test_an_audit_is_made_again(bundled: ts.Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ts.audit(PROMPTS[:2], model=bundled, out=out, formats=["jsonl"], **SMALL)
    found = bundled.replay_audit(out)
    assert found.same and (found.cases, found.samples, found.total) == (2, 6, 0)
    assert set(found.columns) == {"surprisal", "entropy"} and not found.reasons
    lines = (out / "records.jsonl").read_text().splitlines()
    shell = json.loads(lines[1])
    shell["samples"][0]["tokens"]["ids"][-1] ^= 1
    shell["samples"][1]["tokens"]["surprisal"][-1] += 0.01
    shell["samples"][2]["parses"] = not shell["samples"][2]["parses"]
    header = json.loads(lines[0])
    header["versions"]["torch"] = "0"
    (out / "records.jsonl").write_text("\n".join([json.dumps(header), json.dumps(shell), lines[2]]))
    found = bundled.replay_audit(out)
    assert not found.same and found.total == 3 and {c for c, _, _ in found.differing} == {"shell"}
    for (_, sample, what), wanted in zip(
        found.differing, ("ids from token", "surprisal by", "parses: "), strict=True
    ):
        assert wanted in what, (sample, what)
    assert [r for r in found.reasons if r.startswith("torch was 0, is ")]
    assert bundled.replay_audit(out, every=2).cases == 1
    other = ts.Model(ScriptedBackend())
    with pytest.raises(MissingError, match="loaded is"):
        other.replay_audit(out)


def test_processes_give_the_same_records(bundled: ts.Model, tmp_path: Path) -> None:
    one = ts.audit(PROMPTS, model=bundled, out=tmp_path / "1", formats=["jsonl"], **SMALL)
    two = ts.audit(
        PROMPTS, model=bundled, out=tmp_path / "2", formats=["jsonl"], processes=2, **SMALL
    )
    assert (one.samples["text"] == two.samples["text"]).all()
    for a, b in zip(cases(tmp_path / "1"), cases(tmp_path / "2"), strict=True):
        assert [s["findings"] for s in a["samples"]] == [s["findings"] for s in b["samples"]]
        assert [s["tokens"]["ids"] for s in a["samples"]] == [
            s["tokens"]["ids"] for s in b["samples"]
        ]


def test_a_program_that_is_missing_is_told_at_once(
    bundled: ts.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("rules: []\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    policy = {"checks": ["semgrep"], "semgrep": str(rules)}
    with pytest.raises(MissingError, match="semgrep") as raised:
        ts.audit(["x"], model=bundled, policy=policy)
    assert raised.value.exit_code == 3
    with pytest.raises(InputError, match="rules"):
        ts.audit(["x"], model=bundled, policy={"checks": ["semgrep"]})


def test_the_command_keeps_its_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, policy, out = tmp_path / "p.jsonl", tmp_path / "policy.toml", tmp_path / "out"
    prompts.write_text(json.dumps(PROMPTS[0]) + "\n")
    policy.write_text('[gates]\n"CWE-78".risk_upper = "<= 0.02"\n')
    arguments = ["audit", str(prompts), "--policy", str(policy), "--out", str(out), "-n", "6"]
    assert run([*arguments, "--json"]) == 1
    held = json.loads(capsys.readouterr().out)
    assert held["gates"][0]["state"] in ("failed", "undecided") and held["exit"] == 1
    for name in ("html", "jsonl", "parquet", "sarif", "junit.xml", "md", "csv"):
        assert (out / f"report.{name}").exists(), name
    assert run(["audit", str(prompts), "--out", str(out), "--formats", "pdf"]) == 2
    assert run(["audit", str(tmp_path / "nothing"), "--out", str(out)]) == 2
    policy.write_text("[gate]")
    assert run(arguments) == 2
    capsys.readouterr()
    assert run(["rules", "--json"]) == 0
    assert {r["pack"] for r in json.loads(capsys.readouterr().out)["rules"]} >= {"java", "go"}
