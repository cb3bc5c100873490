"""docs/studies.md holds what it says: its blocks run, and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs/studies.md").read_text()
BLOCKS = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
TOLERANCE = 0.03  # other processors add up in another order; a study is no snapshot of bits


def alike(said: str, found: str) -> bool:
    """The same words, and numbers that lie close."""
    if NUMBER.sub("#", said) != NUMBER.sub("#", found):
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(found), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE * max(1.0, abs(float(a))) for a, b in pairs)


def test_every_block_prints_what_stands_below_it() -> None:
    names: dict[str, Any] = {}
    blocks = BLOCKS.findall(PAGE)
    assert len(blocks) == 8
    for source, said in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(source, "docs/studies.md", "exec"), names)
        assert alike(said, out.getvalue()), f"{source}\nprints\n{out.getvalue()}"


@pytest.mark.parametrize(
    ("said", "found", "same"),
    [("0.51 True\n", "0.52 True\n", True), ("0.51 True\n", "0.61 True\n", False),
     ("0.51 True\n", "0.51 False\n", False), ("8 of 9", "8 of 9 and 10", False)],
)  # fmt: skip
def test_the_comparison_itself(said: str, found: str, same: bool) -> None:
    assert alike(said, found) is same
