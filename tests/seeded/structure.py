"""Defects in structure: alignment by bytes, roll-ups, viability."""

from __future__ import annotations

from tests.seeded.defect import Defect

_ALIGN = ("tests/code/test_alignment.py",)
_ROLLUP = ("tests/code/test_rollup.py",)
_VIABLE = (
    "tests/code/test_viable.py::test_these_can_go_on",
    "tests/code/test_viable.py::test_these_cannot",
    "tests/code/test_viable.py::test_a_dead_text_is_refused_at_the_very_character",
    "tests/code/test_viable.py::test_mass_and_entropy_among_the_viable",
)

STRUCTURE = (
    Defect(
        "cells-of-the-next-token", "code/align.py",
        'np.searchsorted(offsets, at, side="right") - 1',
        'np.searchsorted(offsets, at, side="left")',
        "a cell that begins inside a token belongs to the next one", _ALIGN,
    ),
    Defect(
        "blanks-inside-strings", "code/align.py",
        "return cut & (~inside | needed)", "return cut",
        "a string of ten words falls into nineteen cells", _ALIGN,
    ),
    Defect(
        "prompt-in-the-roll-up", "code/rollup.py",
        "late = index >= n_prompt", "late = index >= n_prompt - 1",
        "the last prompt token counts as generated", _ROLLUP,
    ),
    Defect(
        "whole-tokens-in-sums", "code/rollup.py",
        "v * (weight / share)", "v * weight / weight",
        "a token over two regions counts fully in both", _ROLLUP,
    ),
    Defect(
        "every-cell-a-token", "code/segments.py",
        "new = np.append(True, token[1:] != token[:-1])",
        "new = np.append(True, token[1:] == token[1:])",
        "a token of three cells counts three times", _ROLLUP,
    ),
    Defect(
        "quantiles-rounded-down", "code/segments.py",
        "a + (b - a) * (place - floor)", "a",
        "quantiles are not interpolated", _ROLLUP,
    ),
    Defect(
        "missing-body-viable", "code/prefix_python.py",
        'return error is None or "incomplete input" in str(error.msg)',
        'return error is None or "incomplete" in str(error.msg) or "indented" in str(error.msg)',
        "a missing indented body can go on for ever", _VIABLE,
    ),
    Defect(
        "unknown-counts-as-viable", "code/viable.py",
        "(judged.verdicts == VIABLE) & np.isfinite(p)", "(judged.verdicts != NOT) & np.isfinite(p)",
        "the viable mass is no lower bound any more", _VIABLE,
    ),
    Defect(
        "brackets-in-comments", "code/prefix_tree.py",
        "elif _plain(data):", "else:",
        "a bracket that an error region misread proves a text dead",
        ("tests/code/test_viable.py::test_no_prefix_of_a_sample_is_called_not_viable",),
    ),
)  # fmt: skip
