"""Semgrep, where it is installed: a program of its own, with local rules, without network.

It is never started unless the policy names rules of yours (``semgrep = "rules.yml"``). Its pins do
not go with those of this package, so it belongs into an environment of its own, on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tokenscope.code.languages import LANGUAGES
from tokenscope.errors import InputError, MissingError
from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.trace.findings import Finding, Grade

_TIME_S = 60
_SEVERITY: dict[str, Grade] = {"ERROR": "high", "WARNING": "medium", "INFO": "low"}
_QUIET = {"SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}


@CHECKS.register("semgrep")
def check(code: Code, options: Options) -> Found:
    """``semgrep/RULE``. Raises MissingError without the program, InputError without rules."""
    if not options.semgrep:
        raise InputError("policy: semgrep", "the check needs a file or folder of local rules")
    rules = Path(options.semgrep)
    if not rules.exists():
        raise InputError("policy: semgrep", "there is no such file or folder of rules")
    program = shutil.which("semgrep")
    if program is None:
        raise MissingError("semgrep is not installed (in an environment of its own, on the PATH)")
    if code.language not in LANGUAGES:
        return Found()
    with tempfile.TemporaryDirectory(prefix="tokenscope-semgrep-") as folder:
        file = Path(folder) / f"code{LANGUAGES.get(code.language).suffixes.split()[0]}"
        file.write_bytes(code.data)
        command = [
            program, "scan", "--json", "--quiet", "--metrics=off", "--disable-version-check",
            "--no-git-ignore", "--config", str(rules.resolve()), str(file),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_TIME_S, check=False,
                env={**os.environ, **_QUIET},
            )  # fmt: skip
            held = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return Found(notes=["not judged: it took too long"])
        except ValueError:
            return Found(notes=["not judged: it gave no result"])
    found = Found([_finding(r, len(code.data)) for r in held.get("results", [])])
    if held.get("errors"):
        found.notes.append("parts of the code or of the rules could not be read")
    return found


def _finding(result: dict[str, Any], size: int) -> Finding:
    extra = result.get("extra", {})
    told = extra.get("metadata", {})
    cwe = told.get("cwe", "")
    first = str(cwe[0] if isinstance(cwe, list) and cwe else cwe)
    number = "".join(c for c in first.split(":")[0] if c.isdigit())
    start = min(int(result["start"]["offset"]), size)
    grade = str(told.get("confidence", "medium")).lower()
    return Finding(
        f"semgrep/{str(result['check_id']).rsplit('.', 1)[-1]}", str(extra.get("message", "")),
        start, max(start, min(int(result["end"]["offset"]), size)), "semgrep",
        int(number[:6] or 0), _SEVERITY.get(str(extra.get("severity")), "medium"),
        grade if grade in ("low", "medium", "high") else "medium",  # type: ignore[arg-type]
    )  # fmt: skip
