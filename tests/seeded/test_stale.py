"""The seeded defects still fit the sources, and name tests that exist."""

from __future__ import annotations

import ast

import pytest

from tests.seeded import DEFECTS, Defect
from tests.seeded.defect import ROOT, StaleDefect


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_every_defect_still_fits(defect: Defect) -> None:
    ast.parse(defect.seeded())  # raises StaleDefect; and what comes out is still Python
    assert defect.after != defect.before
    for name in defect.tests:
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), name
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), name


def test_there_are_forty_with_names_of_their_own() -> None:
    assert len(DEFECTS) == len({d.name for d in DEFECTS}) == 40


def test_a_defect_whose_text_has_moved_fails_loudly() -> None:
    with pytest.raises(StaleDefect, match="stands 0 times"):
        Defect("x", "registry.py", "no such text", "", "", ()).seeded()
