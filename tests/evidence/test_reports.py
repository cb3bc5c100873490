"""Reports: valid in form, hostile text inert, secrets not repeated, fingerprints that stay."""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
import xmlschema

from tests.evidence.hostile import FORMULAS, vectors
from tests.evidence.sarif_form import SARIF
from tokenscope.evidence.policy import policy_of
from tokenscope.evidence.records import Records
from tokenscope.evidence.report import FORMATS, Report
from tokenscope.evidence.reports.html import page
from tokenscope.evidence.reports.markdown import inert
from tokenscope.runs.audit import gather, write

HEADER = {"model": "<b>bundled</b>", "versions": {"tokenscope": "0.1.0"}, "settings": {"a": "=1"}}


def record(
    case: str, texts: list[str], rule: str = "bandit/B602", **finding: Any
) -> dict[str, Any]:
    """A case as the journal holds it, with one finding per sample over all of its second line."""
    samples = []
    for n, text in enumerate(texts):
        data = text.encode("utf-8", "replace")
        ends = [*range(3, len(data), 3), len(data)]
        at = data.find(b"\n") + 1
        found = {"rule": rule, "message": finding.get("message", "said"), "start": at,
                 "end": len(data), "source": finding.get("source", "bandit"), "cwe": 78,
                 "severity": "high", "confidence": "medium", "tokens": [0, len(ends)]}  # fmt: skip
        samples.append({
            "sample": n, "seed": n, "language": "python", "finish": "length", "n_prompt": 1,
            "text": data.decode(), "parses": True, "statements": [1.0], "findings": [found],
            "tokens": {"ids": list(range(len(ends))), "ends": ends, "labels": {},
                       "surprisal": [None, *(1.5 for _ in ends[1:])], "entropy": []},
            "alternatives": {"1": [[text[:30], -0.5, True], ["other", -1.0, False]]},
            "notes": [], "model": {"digest": "d", "dtype": "float32"},
        })  # fmt: skip
    return {"case": case, "path": case, "line": 1, "form": "prompt", "error": None,
            "samples": samples, "changed": None}  # fmt: skip


def report(folder: Path, records: list[dict[str, Any]], errors: int = 0) -> Report:
    journal = Records(folder, HEADER)
    for r in records:
        journal.add(r)
    journal.close()
    policy = policy_of({"gates": {"CWE-78": {"risk_upper": "<= 0.5"}}})
    refused = [{"where": v, "line": 3, "id": v, "reason": v} for v in vectors()[:errors]]
    return gather(folder, policy, refused, errors)


def hostile(folder: Path) -> Report:
    held = vectors()
    records = [record(v, [f"x = 1\n{v}"], rule=f"own/{v}", message=v) for v in held]
    return report(folder, records, errors=5)


class Tags(HTMLParser):
    """Which elements and attributes a document really has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_hostile_text_makes_no_element_and_no_attribute(tmp_path: Path) -> None:
    made = Tags()
    made.feed(page(hostile(tmp_path)))
    assert made.tags <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "span", "code",
        "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "div", "pre", "ul", "li",
    }  # fmt: skip
    assert made.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "title",
                               "open"}  # fmt: skip


def test_hidden_characters_are_shown(tmp_path: Path) -> None:
    text = page(report(tmp_path, [record("a\u202eb", ["x\n\u202ey\u200b\x1b[31m"])]))
    assert "&lt;U+202E&gt;" in text and "\u202e" not in text and "\x1b" not in text


def test_markdown_holds_no_live_markup(tmp_path: Path) -> None:
    made = hostile(tmp_path)
    text = write(made, tmp_path, ["markdown"])["markdown"].read_text()
    outside = re.sub(r"<code>[^<]*</code>", "", text)
    assert "<" not in outside and "javascript" not in outside and "](" not in outside
    assert re.fullmatch(r"<code>[\w &#;,\u00a0-\uffff]*</code>", inert("@me #1 [a](b) <i> `x` |"))


def test_sarif_has_the_form_of_the_standard(tmp_path: Path) -> None:
    made = hostile(tmp_path)
    document = json.loads(write(made, tmp_path, ["sarif"])["sarif"].read_bytes())
    jsonschema.Draft202012Validator(SARIF).validate(document)
    official = os.environ.get("TOKENSCOPE_SARIF_SCHEMA")  # the file that OASIS publishes
    if official:
        jsonschema.Draft4Validator(json.loads(Path(official).read_text())).validate(document)
    run = document["runs"][0]
    assert len(run["results"]) == 200
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"].startswith("analyser-detected")
        region = result["locations"][0]["physicalLocation"]["region"]
        assert region["startLine"] == 2 and region["startColumn"] == 1 and region["byteOffset"] == 6


def test_fingerprints_stay_when_code_moves(tmp_path: Path) -> None:
    def prints(name: str, text: str) -> list[str]:
        (tmp_path / name).mkdir()
        made = report(tmp_path / name, [record("f.py", [text])])
        document = json.loads(write(made, tmp_path / name, ["sarif"])["sarif"].read_bytes())
        return [r["partialFingerprints"]["tokenscope/v1"] for r in document["runs"][0]["results"]]

    assert prints("a", "x\nrun(y)") == prints("b", "xxxxxx\n  run(y)")
    assert prints("c", "x\nrun(y)") != prints("d", "x\nrun(z)")


def test_junit_counts_what_it_holds(tmp_path: Path) -> None:
    broken = record("b", ["x\ny"]) | {"error": {"code": "bad_input", "message": "\x00<&"}}
    made = report(tmp_path, [record("a", ["x\ny"]), broken])
    path = write(made, tmp_path, ["junit"])["junit"]
    schema = xmlschema.XMLSchema(Path(__file__).with_name("junit-10.xsd"))
    schema.validate(path)
    bent = path.read_text().replace("<testcase classname", "<testcase klass", 1)
    assert not schema.is_valid(bent)
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites" and [s.get("name") for s in root] == ["gates", "cases"]
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests") or 0) == len(cases)
        assert int(suite.get("failures") or 0) == len(suite.findall("testcase/failure"))
        assert int(suite.get("errors") or 0) == len(suite.findall("testcase/error"))
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None and failure.get("type") in ("failed", "undecided")
    assert set(root.attrib) <= {"name", "tests", "failures", "errors", "time"}


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    made = report(
        tmp_path, [record(f + str(n), ["x\ny"], message=f) for n, f in enumerate(FORMULAS)]
    )
    with open(write(made, tmp_path, ["csv"])["csv"], newline="") as opened:
        held = list(csv.DictReader(opened))
    assert len(held) == len(FORMULAS)
    for row in held:
        assert row["case"].startswith("'") and row["message"].startswith("'")


def test_parquet_and_jsonl_hold_every_finding(tmp_path: Path) -> None:
    made = report(tmp_path, [record(str(n), ["x\ny", "x\nz"]) for n in range(30)])
    written = write(made, tmp_path)
    assert set(written) == set(FORMATS) and all(p.exists() for p in written.values())
    table = pd.read_parquet(written["parquet"])
    assert len(table) == 60 and set(table["language"]) == {"python"}
    assert (table["line"] == 2).all() and table["first_token"].notna().all()
    lines = [json.loads(line) for line in written["jsonl"].read_text().splitlines()]
    assert [x["kind"] for x in lines].count("finding") == 60 and lines[0]["kind"] == "summary"
    assert json.loads((tmp_path / "audit.json").read_text())["findings"] == 60


def test_nothing_found_still_gives_every_report(tmp_path: Path) -> None:
    clean = record("a", ["x\ny"])
    clean["samples"][0]["findings"] = []
    written = write(report(tmp_path, [clean]), tmp_path)
    assert len(pd.read_parquet(written["parquet"])) == 0
    assert "no proof that nothing is there" in written["html"].read_text()


def test_a_secret_is_not_repeated_in_reports_for_readers(tmp_path: Path) -> None:
    made = report(tmp_path, [record("a", ["x\nAKIAIOSFODNN7EXAMPLE"], source="secrets")])
    for name, path in write(made, tmp_path, ["html", "sarif", "markdown", "junit"]).items():
        assert "AKIAIOSFODNN7" not in path.read_text(), name


def test_a_report_of_many_cases_stays_small(tmp_path: Path) -> None:
    made = report(tmp_path, [record(str(n), ["x\ny"]) for n in range(700)])
    assert made.groups == 700 and len(made.worst) == 200
    assert "The worst 200 of 700" in page(made)


@pytest.mark.parametrize("bad", [b'{"kind": "case", "ca', b'{"kind": "case", "case": "z"'])
def test_a_torn_last_line_of_the_journal_is_cut_off(tmp_path: Path, bad: bytes) -> None:
    report(tmp_path, [record("a", ["x\ny"])])
    with open(tmp_path / "records.jsonl", "ab") as opened:
        opened.write(bad)
    journal = Records(tmp_path, HEADER)
    assert len(journal.done) == 1
    journal.add(record("b", ["x\ny"]))
    journal.close()
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert [json.loads(x).get("case") for x in lines] == [None, "a", "b"]
