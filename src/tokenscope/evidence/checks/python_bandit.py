"""Bandit (PyCQA, Apache-2.0), in this process: 4 ms a snippet rather than 300 for a program.

Bandit reads what CPython parses, so unfinished code is closed first (``evidence.closing``) and a
note says so. The span of a finding is that of the syntax node that bandit was visiting, in
bytes, cut at the end of what was really there.
"""

from __future__ import annotations

import io
import logging
import tokenize
import warnings
from functools import cache
from typing import Any

from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.evidence.closing import close_python
from tokenscope.trace.findings import Finding, Grade

# of a report form that needs a package which is not wanted here bandit's loader says an error
logging.getLogger("stevedore.extension").setLevel(logging.CRITICAL)

from bandit.core import config as bandit_config  # noqa: E402
from bandit.core import manager, metrics, node_visitor, test_set  # noqa: E402

_GRADE: dict[str, Grade] = {"LOW": "low", "MEDIUM": "medium", "HIGH": "high"}


class _Visitor(node_visitor.BanditNodeVisitor):
    """Bandit's visitor, which also keeps the node that each result came from."""

    def update_scores(self, scores: Any) -> None:
        super().update_scores(scores)
        self.nodes = getattr(self, "nodes", [])
        new = len(self.tester.results) - len(self.nodes)
        self.nodes += [self.context.get("node")] * new


@CHECKS.register("bandit")
def check(code: Code, options: Options) -> Found:
    """What bandit's own plugins report, at any severity and confidence."""
    if code.language != "python":
        return Found()
    text = code.data.decode("utf-8", "replace")
    if len(text.encode()) != len(code.data) or "\ufffd" in text:
        return Found(notes=["not judged: the text is no UTF-8"])
    mark = 3 if text.startswith("\ufeff") else 0
    closed = close_python(text.removeprefix("\ufeff"))
    if closed is None:
        return Found(notes=["not judged: nothing of it parses"])
    found = Found(notes=[closed.note] if closed.note else [])
    starts = _line_starts(closed.text.encode())
    visitor = _visited(closed.text)
    for result, node in zip(visitor.tester.results, visitor.nodes, strict=True):
        start, end = _span(result, node, starts)
        if start >= closed.kept and closed.kept:
            continue  # what was put in at the end is no code of theirs
        found.findings.append(
            Finding(
                f"bandit/{result.test_id}", str(result.text), start + mark,
                min(end, closed.kept) + mark, "bandit", int(result.cwe.id),
                _GRADE.get(result.severity, "low"), _GRADE.get(result.confidence, "low"),
            )
        )  # fmt: skip
    return found


@cache
def _tests() -> tuple[Any, Any]:
    logging.getLogger("bandit").setLevel(logging.CRITICAL)
    config = bandit_config.BanditConfig()
    return test_set.BanditTestSet(config, {}), metrics.Metrics()


def _visited(text: str) -> Any:
    tests, counted = _tests()
    counted.begin("code.py")
    file = io.BytesIO(text.encode())
    visitor = _Visitor("code.py", file, None, tests, False, _nosec(text.encode()), counted)
    visitor.nodes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        visitor.process(text)
    return visitor


def _nosec(data: bytes) -> dict[int, set[str]]:
    """Lines that say ``# nosec``: bandit's own way to call a finding looked at."""
    lines = {}
    try:
        for kind, text, (line, _), _, _ in tokenize.tokenize(io.BytesIO(data).readline):
            if kind == tokenize.COMMENT:
                lines[line] = manager._parse_nosec_comment(text)
    except (tokenize.TokenError, SyntaxError):
        pass
    return lines


def _span(result: Any, node: Any, starts: list[int]) -> tuple[int, int]:
    if node is not None and getattr(node, "end_lineno", None):
        start = starts[node.lineno - 1] + int(node.col_offset)
        return start, starts[node.end_lineno - 1] + int(node.end_col_offset)
    line = min(max(int(result.lineno or 1), 1), len(starts) - 1)
    return starts[line - 1], starts[line]


def _line_starts(data: bytes) -> list[int]:
    """The byte at which every line starts, and the end. Bytes are split as CPython does."""
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return [*starts, starts[-1]]
