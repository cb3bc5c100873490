"""Audits over the wire: begun, watched, stopped, gone on with, read, opened, fetched."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tokenscope as ts
from tokenscope.backends.scripted import END, ScriptedBackend
from tokenscope.runs.model import Model
from tokenscope.server.wire import GalleryItem

if TYPE_CHECKING:
    from conftest import Served

WRITTEN = b"eval(c)\n"
POLICY = """
on_error = "skip"
checks = ["syntax", "bandit"]
[sampling]
samples = 4
temperature = 1.0
max_new_tokens = 20
[gates]
"CWE-78".risk_upper = "<= 0.02"
any.risk_upper = "<= 0.5"
parse_rate.lower = ">= 0.1"
"""


def writes(seconds: float = 0.0) -> Callable[[Any], Any]:
    """A script: after an indent it writes ``eval(c)`` and ends, anywhere else it ends at once."""

    def script(ids: Any) -> Any:
        time.sleep(seconds)
        data = bytes(int(i) for i in ids if i < END)
        body = data[data.rfind(b"    ") + 4 :] if b"    " in data else b"?"
        logits = np.full(END + 1, -9.0, dtype=np.float32)
        ended = body == WRITTEN or not WRITTEN.startswith(body)
        logits[END if ended else WRITTEN[len(body)]] = 9.0
        return logits

    return script


def lines(count: int) -> str:
    made = [{"id": f"c{n}", "prompt": f"def f{n}(c):\n    "} for n in range(count)]
    return "".join(json.dumps(m) + "\n" for m in made)


def begin(served: Served, **body: Any) -> dict[str, Any]:
    answer = served.client.post("/api/audits", json={"policy": POLICY, **body})
    assert answer.status_code == 202, answer.text
    info: dict[str, Any] = answer.json()
    return info


def ended(served: Served, name: str) -> dict[str, Any]:
    for _ in range(2000):
        held: dict[str, Any] = served.client.get(f"/api/audits/{name}").json()
        if held["info"]["status"] != "running":
            return held
        time.sleep(0.01)
    raise AssertionError("it does not end")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.server.conftest import Servers

    servers = Servers(tmp_path_factory.mktemp("audits"))
    served = servers.start(writes())
    served.house.gallery.append(
        GalleryItem(id="safe", title="t", why="w", kind="complete", language="python",
                    prompt="x = 1\n", suffix=None, max_new_tokens=4)
    )  # fmt: skip
    yield served
    servers.stop()


@pytest.fixture(scope="module")
def audited(house: Any) -> dict[str, Any]:
    info = begin(house, title="nightly", gallery=["safe"], prompts=lines(2) + "broken\n")
    assert info["title"] == "nightly" and info["total"] == 3 and not info["resumable"]
    events = [m["event"] for _, m in house.view(run=info["run"]) if "event" in m]
    assert events[-1] == {"type": "done", "finish": "done"}
    assert [e["done"] for e in events[:-1]] == sorted(e["done"] for e in events[:-1])
    assert {e["what"] for e in events[:-1]} == {"cases"}
    assert house.client.get(f"/api/runs/{info['run']}").json()["kind"] == "audit"
    return ended(house, info["id"])


def folder_of(served: Any, name: str) -> Path:
    found: Path = served.house.store.path / "audits" / name
    return found


def test_gates_stand_against_their_limits(house: Any, audited: dict[str, Any]) -> None:
    info = audited["info"]
    assert (info["status"], info["state"], info["run"]) == ("done", "failed", None)
    assert (info["done"], info["samples"], info["errors"]) == (3, 12, 1)
    # eight of the twelve samples hold the eval that was written
    gates = {g["gate"]: g for g in audited["gates"]}
    any_ = gates["any.risk.upper <= 0.5"]
    assert any_["bound"]["value"] == pytest.approx(8 / 12) and any_["state"] == "undecided"
    z, p, n = 1.959964, 8 / 12, 12
    upper = (p + z * z / 2 / n + z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5) / (1 + z * z / n)
    assert any_["bound"]["upper"] == pytest.approx(upper, abs=1e-6)
    assert (
        any_["margin"] == pytest.approx(0.5 - upper, abs=1e-6) and "holds the limit" in any_["why"]
    )
    assert [g["state"] for g in audited["gates"]] == ["failed", "undecided", "passed"]
    assert {f["name"] for f in audited["figures"]} >= {"parse_rate", "any.risk", "CWE-78.risk"}
    assert audited["refused"][0]["line"] == 4 and audited["refused_total"] == 1
    assert audited["settings"]["settings"]["samples"] == 4 and audited["policy"] == POLICY
    assert [a["id"] for a in house.client.get("/api/audits").json()] == [info["id"]]


def test_cases_stand_worst_first_and_lead_to_tokens(house: Any, audited: dict[str, Any]) -> None:
    assert [c["case"] for c in audited["cases"]] == ["c0", "c1", "gallery/safe"]
    worst = audited["cases"][0]
    assert worst["rules"] == ["bandit/B307"] and worst["risk"]["value"] == 1.0
    assert worst["excerpt"] == "def f0(c):" and worst["parsed"] == worst["judged"] == 4
    assert audited["cases"][2]["severity"] == "" and audited["cases_total"] == 3
    group = audited["groups"][0]
    assert group["case"] == "c0" and group["line"] == 2 and group["snippet"] == "eval(c)"
    ask = {"case": "c0", "sample": group["sample"]}
    held = house.client.get(f"/api/audits/{audited['info']['id']}/sample", params=ask).json()
    first, last = held["findings"][0]["tokens"]
    assert bytes(held["ids"][first:last]) == b"eval(c)" and held["node"] is None
    assert held["alternatives"][str(first)][0]["chosen"]
    for ask in ({"case": "c9"}, {"case": "c0", "sample": 4}):
        url = f"/api/audits/{audited['info']['id']}/sample"
        assert house.client.get(url, params=ask).status_code == 404


def test_a_sample_opens_as_a_branch_with_the_same_tokens(
    house: Any, audited: dict[str, Any]
) -> None:
    url, ask = f"/api/audits/{audited['info']['id']}", {"case": "c1", "sample": 2}
    opened = house.client.post(f"{url}/open", json=ask)
    assert opened.status_code == 202, opened.text
    made = opened.json()
    list(house.view(run=made["run"]))
    sample = house.client.get(f"{url}/sample", params=ask).json()
    assert (sample["node"], sample["session"]) == (made["node"], made["session"])
    trace = house.client.get(f"/api/nodes/{made['node']}").json()
    assert trace["ids"] == sample["ids"] and trace["n_prompt"] == sample["n_prompt"]
    assert trace["node"]["title"] == "c1 #2"
    held = house.house.store.trace(made["node"]).column("surprisal")
    np.testing.assert_allclose(held[1:], sample["surprisal"][1:], atol=2e-5)
    found = house.client.get(f"/api/nodes/{made['node']}/findings").json()["findings"]
    assert found[0]["tokens"] == sample["findings"][0]["tokens"]
    again = house.client.post(f"{url}/open", json=ask).json()
    assert again == {"session": made["session"], "node": made["node"], "run": None}


def test_every_file_is_fetched_as_it_is(house: Any, audited: dict[str, Any]) -> None:
    name = audited["info"]["id"]
    folder = folder_of(house, name)
    told = {f["name"]: f for f in audited["files"]}
    reports = ("html", "sarif", "junit.xml", "md", "jsonl", "csv", "parquet.zip")
    others = {"audit.json", "records.jsonl", "errors.jsonl", "policy.toml", "prompts.jsonl"}
    assert set(told) == {*(f"report.{r}" for r in reports), *others}
    for file, one in told.items():
        answer = house.client.get(f"/api/audits/{name}/files/{file}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}-{file}"'
        assert answer.headers["content-type"].startswith(one["type"])
        assert "sandbox" in answer.headers["content-security-policy"]
        if file == "report.parquet.zip":
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                (part,) = archive.namelist()
                assert archive.read(part) == (folder / part).read_bytes()
        else:
            assert (
                answer.content == (folder / file).read_bytes()
                and len(answer.content) == (one["bytes"])
            )


def test_nothing_else_can_be_fetched(house: Any, audited: dict[str, Any], tmp_path: Path) -> None:
    name = audited["info"]["id"]
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    root = house.house.store.path / "audits"
    (root / "linked").symlink_to(root / name)
    planted = root / "planted"
    planted.mkdir()
    (planted / "records.jsonl").symlink_to(secret)
    (planted / "report.md").mkdir()
    (planted / "report.parquet").symlink_to(tmp_path)
    for path in (
        f"{name}/files/..%2F..%2Ftoken", f"{name}/files/asked.json",
        f"{name}/files/%2Fetc%2Fpasswd", f"{name}/files/report.parquet",
        f"{name}/files/records%2Fhead.json", "..%2F..%2F/files/token",
        "linked/files/records.jsonl", "planted/files/records.jsonl", "planted/files/report.md",
        "planted/files/report.parquet.zip", "planted", "linked", "%2e%2e", "x%00",
    ):  # fmt: skip
        answer = house.client.get(f"/api/audits/{path}")
        assert answer.status_code in (404, 422), path
        assert "s3cret" not in answer.text
    assert all(f not in ("planted", "linked") for f in (
        a["id"] for a in house.client.get("/api/audits").json()))  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompts"),
        ({"prompts": "broken\n"}, "prompts"),
        ({"gallery": ["nothing"]}, "gallery"),
        ({"prompts": lines(1), "policy": "rules = ['/etc']"}, "policy: rules"),
        ({"prompts": lines(1), "policy": "semgrep = '/etc/x.yml'"}, "policy: semgrep"),
        ({"prompts": lines(1), "policy": "checks = ['semgrep']"}, "policy: semgrep"),
        ({"prompts": lines(1), "policy": "gates = ['bandt.count <= 0']"}, "figure: subject"),
        ({"prompts": lines(1), "policy": "gates = ['drift.kl.max <= 0']"}, "figure"),
        ({"prompts": lines(1), "policy": "x"}, "policy"),
        ({"prompts": lines(1), "form": "csv", "gallery": ["safe"]}, "prompts"),
        ({"prompts": lines(1), "samples": 0}, "samples"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_begins(
    house: Any, audited: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    before = sorted(p.name for p in (house.house.store.path / "audits").iterdir())
    answer = house.client.post("/api/audits", json=body)
    assert answer.status_code == 422 and answer.json()["field"] == field, answer.text
    assert sorted(p.name for p in (house.house.store.path / "audits").iterdir()) == before
    assert house.idle()


def test_it_is_stopped_and_gone_on_with(serve: Callable[..., Served]) -> None:
    served = serve(writes(0.001))
    whole = ended(served, begin(served, prompts=lines(6))["id"])
    info = begin(served, prompts=lines(6))
    assert served.client.post(f"/api/audits/{info['id']}/resume").status_code == 503  # it runs
    for _, message in served.view(run=info["run"]):
        if message.get("event", {}).get("done") == 2:
            served.client.post(f"/api/runs/{info['run']}/cancel")
            break
    held = ended(served, info["id"])
    assert held["info"]["status"] == "cancelled" and held["info"]["resumable"]
    assert held["info"]["state"] is None and 2 <= held["info"]["done"] < 6
    assert held["cases_total"] == held["info"]["done"]  # what there is can be read already
    answer = served.client.post(f"/api/audits/{info['id']}/resume")
    assert answer.status_code == 202 and answer.json()["status"] == "running"
    held = ended(served, info["id"])
    assert held["info"]["status"] == "done" and held["info"]["done"] == 6
    assert held["gates"] == whole["gates"] and held["cases"] == whole["cases"]
    assert served.client.post(f"/api/audits/{info['id']}/resume").status_code == 422


def test_one_that_the_server_left_is_gone_on_with_by_the_next(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    first = serve(writes(0.002), data=data)
    info = begin(first, prompts=lines(6))
    for _, message in first.view(run=info["run"]):
        if message.get("event", {}).get("done") == 1:
            break
    first.house.jobs.close()
    first.house.store.close()
    second = serve(writes(), data=data)
    (listed,) = second.client.get("/api/audits").json()
    assert (listed["status"], listed["resumable"], listed["total"]) == ("interrupted", True, 6)
    second.client.post(f"/api/audits/{info['id']}/resume")
    assert ended(second, info["id"])["info"]["done"] == 6


def test_audits_of_the_command_line_are_shown(serve: Callable[..., Served], tmp_path: Path) -> None:
    data = tmp_path / "data"
    model = Model(ScriptedBackend(writes(), context=20_000))
    policy = {"checks": ["bandit"], "gates": ["any.risk_upper <= 0.5"]}
    out = data / "audits" / "mine"
    ts.audit(["def f(c):\n    "], model=model, out=out, policy=policy, max_new_tokens=20)
    (data / "audits" / "empty").mkdir()
    (data / "audits" / "bent").mkdir()
    (data / "audits" / "bent" / "records.jsonl").write_text('{"kind": "audit"}\n{"kind": "case"}\n')
    served = serve(writes(), data=data)
    assert {a["id"] for a in served.client.get("/api/audits").json()} == {"mine", "bent"}
    held = served.client.get("/api/audits/mine").json()
    assert held["info"]["status"] == "done" and not held["info"]["resumable"]
    assert held["gates"][0]["gate"] == "any.risk.upper <= 0.5" and held["groups_total"] == 1
    assert served.client.get("/api/audits/bent").status_code == 500
    assert served.client.post("/api/audits/mine/resume").status_code == 422
    told = served.client.get("/api/policy").json()
    assert "semgrep" not in told["checks"] and "parse_rate" in told["figures"]
    begun = begin(served, prompts=lines(1), policy=told["example"])
    assert ended(served, begun["id"])["info"]["status"] == "done"


def test_a_failure_is_told(serve: Callable[..., Served]) -> None:
    served = serve(writes())
    info = begin(served, prompts="broken\n" + lines(1), policy='on_error = "stop"')
    held = ended(served, info["id"])
    assert held["info"]["status"] == "failed" and "line 1: is not JSON" in held["info"]["error"]
