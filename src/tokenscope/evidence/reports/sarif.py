"""SARIF 2.1.0 (OASIS), for code scanning: results with stable fingerprints.

A code flow holds the decision points (tokens at which the finding was decided), a fix the best
branch without it, where they were measured. Columns count Unicode code points.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tokenscope import disk
from tokenscope.evidence.report import WRITERS, Report, data_of, place, snippet
from tokenscope.trace.display import visible

_LEVEL = {"low": "note", "medium": "warning", "high": "error"}
_RANK = {"low": 30.0, "medium": 60.0, "high": 90.0}
_MOST = 20_000  # results of one file: code scanning takes no more
_CWE = "https://cwe.mitre.org/data/definitions/{}.html"


@WRITERS.register("sarif")
def write_sarif(report: Report, folder: Path) -> Path:
    """``report.sarif``."""
    results: list[dict[str, Any]] = []
    rules: dict[str, dict[str, Any]] = {}
    prints: Counter[str] = Counter()
    left = 0
    for record in report.cases():
        for sample in record["samples"]:
            data = data_of(sample) if sample["findings"] else b""
            for number, finding in enumerate(sample["findings"]):
                if len(results) >= _MOST:
                    left += 1
                    continue
                rules.setdefault(finding["rule"], _rule(finding))
                results.append(_result(record, sample, finding, number, data, list(rules), prints))
    document = {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
                   "sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [_run(report, results, list(rules.values()), left)],
    }  # fmt: skip
    path = folder / "report.sarif"
    disk.write_whole(path, (p.encode() for p in _encoded(document)))
    return path


def _encoded(document: Any) -> Iterator[str]:
    return json.JSONEncoder(allow_nan=False, ensure_ascii=True).iterencode(document)


def _run(
    report: Report, results: list[dict[str, Any]], rules: list[dict[str, Any]], left: int
) -> dict[str, Any]:
    notes = [_notification(f"{e['where']}: {e['reason']}", "warning") for e in report.errors]
    for v in report.verdicts:
        level = "note" if v.state == "passed" else "error"
        notes.append(_notification(f"gate {v.gate}: {v.state}: {v.why}", level))
    version = str(dict(report.header.get("versions", {})).get("tokenscope", ""))
    if left:
        notes.append(_notification(f"{left} more results are in records.jsonl", "warning"))
    return {
        "tool": {
            "driver": {
                "name": "TokenScope", "version": version,
                "rules": rules,
            }
        },
        "automationDetails": {"id": "tokenscope/audit/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {"executionSuccessful": True, "toolExecutionNotifications": notes}
        ],
        "properties": {"state": report.state, "model": visible(str(report.header["model"]))},
        "results": results,
    }  # fmt: skip


def _notification(text: str, level: str) -> dict[str, Any]:
    return {"message": {"text": visible(text)}, "level": level}


def _rule(finding: Mapping[str, Any]) -> dict[str, Any]:
    cwe = finding["cwe"]
    made: dict[str, Any] = {
        "id": finding["rule"],
        "shortDescription": {"text": visible(finding["message"].split("\n")[0])},
        "defaultConfiguration": {"level": _LEVEL[finding["severity"]]},
        "properties": {
            "precision": finding["confidence"],
            "tags": ["security", *([f"external/cwe/cwe-{cwe}"] if cwe else [])],
        },
    }
    if cwe:
        made["helpUri"] = _CWE.format(cwe)
    return made


def _result(
    record: Mapping[str, Any],
    sample: Mapping[str, Any],
    finding: Mapping[str, Any],
    number: int,
    data: bytes,
    rules: list[str],
    prints: Counter[str],
) -> dict[str, Any]:
    uri = _uri(record, sample)
    made: dict[str, Any] = {
        "ruleId": finding["rule"], "ruleIndex": rules.index(finding["rule"]),
        "level": _LEVEL[finding["severity"]], "rank": _RANK[finding["confidence"]],
        "message": {"text": f"analyser-detected: {visible(finding['message'])}"},
        "locations": [_location(uri, data, finding, snippet(sample, finding))],
        "partialFingerprints": {"tokenscope/v1": _fingerprint(record, finding, data, prints)},
        "properties": {
            "case": visible(record["case"]), "sample": sample["sample"], "seed": sample["seed"],
            "tokens": finding["tokens"], "confidence": finding["confidence"],
        },
    }  # fmt: skip
    risk = next((r for r in sample.get("risks", ()) if number in r["findings"]), None)
    if risk is not None:
        made["properties"]["risk"] = {
            k: risk[k] for k in ("lower", "upper", "method", "price", "cost")
        }
        made["codeFlows"] = [{"threadFlows": [{"locations": [
            {"location": _location(uri, data, point, point["text"], point["said"]),
             "importance": "essential"} for point in risk["decisions"]]}]}]  # fmt: skip
        if not risk["decisions"]:
            del made["codeFlows"]
        if risk["safe"] is not None:
            made["fixes"] = [_fix(uri, data, risk["safe"])]
    return made


def _uri(record: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    if record["form"] == "code":
        return quote(record["path"] or record["case"], safe="/")
    return f"prompts/{quote(record['case'], safe='')}/{sample['sample']}"


def _region(data: bytes, start: int, end: int) -> dict[str, Any]:
    line, column = place(data, start)
    last_line, last_column = place(data, end)
    return {
        "startLine": line, "startColumn": column, "endLine": last_line, "endColumn": last_column,
        "byteOffset": start, "byteLength": end - start,
    }  # fmt: skip


def _location(
    uri: str, data: bytes, at: Mapping[str, Any], text: str, said: str = ""
) -> dict[str, Any]:
    region = _region(data, at["start"], at["end"]) | {"snippet": {"text": text}}
    made: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}
    }
    if said:
        made["message"] = {"text": visible(said)}
    return made


def _fix(uri: str, data: bytes, safe: Mapping[str, Any]) -> dict[str, Any]:
    """The best branch without the finding: what follows the fork is written anew."""
    return {
        "description": {"text": visible(safe["said"])},
        "artifactChanges": [{
            "artifactLocation": {"uri": uri},
            "replacements": [{
                "deletedRegion": _region(data, safe["start"], len(data)),
                "insertedContent": {"text": safe["text"]},
            }],
        }],
    }  # fmt: skip


def _fingerprint(
    record: Mapping[str, Any], finding: Mapping[str, Any], data: bytes, prints: Counter[str]
) -> str:
    """The same while the line says the same, wherever in its file it has moved to.

    Of prompts the case and the text count, not the number of the sample: the same finding in
    twenty samples is told apart by its number of order.
    """
    start = data.rfind(b"\n", 0, finding["start"]) + 1
    end = data.find(b"\n", finding["start"])
    line = b" ".join(data[start : len(data) if end < 0 else end].split())
    parts = [record["case"].encode("utf-8", "replace"), finding["rule"].encode(), line]
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
    prints[name] += 1
    return f"{name}:{prints[name]}"
