"""Sessions as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from tokenscope import export
from tokenscope.store import NodeRow, SessionRow
from tokenscope.trace import Trace, trace_of

SESSION = SessionRow("s", "title", "2024", "2024", 1, 3)


def branch(node: str, trace: Trace, title: str = "") -> tuple[NodeRow, Trace]:
    row = NodeRow(
        node, "s", None, 0, title, "", "done", "length", "plain", "2024", {}, 0, None, None
    )
    return row, trace


def rows(*branches: tuple[NodeRow, Trace]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(export.session(SESSION, branches, "csv"))))


def test_csv_has_a_row_per_token_and_a_column_per_number() -> None:
    a = trace_of([1, 2], [b"a", b'\n,"b'], 1, entropy=[math.nan, 0.1], rank=[math.nan, 2])
    b = trace_of([3], [b"c"], 1, entropy=[math.nan])
    found = rows(branch("n1", a, "=title"), branch("n2", b))
    assert [r["branch"] for r in found] == ["n1", "n1", "n2"]
    assert [r["text"] for r in found] == ["a", '\n,"b', "c"] or found[1]["text"] == "'\n,\"b"
    assert [r["entropy"] for r in found] == ["", "0.100000001", ""]
    assert [r["rank"] for r in found] == ["", "2.0", ""]
    assert [r["generated"] for r in found] == ["0", "1", "0"]
    assert found[0]["branch_title"] == "'=title"


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =cmd",
        "\uff1dx",
        "\u200b=x",
        "\x00=1",
        "\x0b@x",
        "\x1f+1",
        "\u202e=1",
        "\u2066 -1",
        "\u00ad=1",
        "\u3000=1",
        "\x85=1",
        " \t \u200f\u2028=1",
        "\x1bx",
        "\ufeffplain",
        "\U000e0001=1",
        "\u22121",
        "\ufe66x",
    ],
)
def test_no_cell_starts_a_formula(text: str) -> None:
    (found,) = rows(branch("n", trace_of([1], [text.encode()], 0)))
    assert found["text"] == f"'{text}"


@pytest.mark.parametrize("text", ["a=1", "", " x", "'", "(-1)"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert export.cell(text) == text


def test_json_holds_everything() -> None:
    trace = trace_of([1, 2], [b"a", b"\xff"], 1, entropy=[math.nan, 0.1])
    found = json.loads(export.session(SESSION, [branch("n1", trace)], "json"))
    assert found["session"]["title"] == "title"
    (one,) = found["branches"]
    assert one["trace"]["columns"]["entropy"]["values"][0] is None
    assert one["trace"]["tokens"][1]["bytes"] == "/w=="
