"""Every language: a sample of 100 lines and more is parsed, aligned and rolled up as recorded.

After a change that is meant, ``TOKENSCOPE_RECORD=1 pytest tests/code/test_languages.py`` writes the
snapshots anew; read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from tokenscope.code.aliases import chosen, language_of_fence, language_of_file
from tokenscope.code.align import align
from tokenscope.code.detect import detect, language_of_content
from tokenscope.code.language import SHARED
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.parse import fences, parse
from tokenscope.code.rollup import rollup
from tokenscope.errors import UnknownName
from tokenscope.trace.regions import CATEGORIES, LEVEL_BITS, LEVELS
from tokenscope.trace.tokens import Tokens

SAMPLES = Path(__file__).parent / "samples"
PIECE = re.compile(rb" ?[A-Za-z_]{1,6}| ?\d{1,3}|\s+|[^\w\s]{1,2}|.", re.DOTALL)
BY_LANGUAGE = {
    language_of_file(path): path for path in sorted(SAMPLES.iterdir()) if path.suffix != ".snap"
}


def tokens_of(data: bytes) -> Tokens:
    """The text cut as a byte-pair tokenizer would about do."""
    pieces = [m.group() for m in PIECE.finditer(data)]
    return Tokens.of(range(len(pieces)), pieces)


def snapshot(language: str, data: bytes) -> dict[str, object]:
    """What is recorded: the tree's outline, and one number per level that depends on all of it."""
    tokens = tokens_of(data)
    regions = parse(data, language)
    cells = align(tokens, regions)
    values = (np.arange(len(tokens)) % 17 / 4).astype(np.float32)
    levels = {}
    for by in LEVELS:
        frame = rollup(cells, values, by).frame()
        levels[by] = {
            "groups": len(frame),
            "mean": round(float(frame["mean"].mean()), 5) if len(frame) else None,
            "sum": round(float(frame["sum"].sum()), 3),
        }
    weights = np.bincount(cells.category, weights=cells.weight, minlength=len(CATEGORIES))
    outline = [
        f"{'  ' * min(r.depth, 9)}{r.label}"
        for r in regions
        if {"function", "class"} & set(r.levels)
    ]
    return {
        "bytes": len(data), "tokens": len(tokens), "regions": len(regions), "cells": len(cells),
        "errors": int(regions.error.sum()), "missing": int(regions.missing.sum()),
        "definitions": outline, "levels": levels,
        "category_bytes": {c: int(w) for c, w in zip(CATEGORIES, weights, strict=True) if w},
    }  # fmt: skip


@pytest.mark.parametrize("language", [*LANGUAGES.names(), "markdown"])
def test_the_sample_is_parsed_aligned_and_rolled_up_as_recorded(language):
    path = BY_LANGUAGE[language]
    data = path.read_bytes()
    if language != "markdown":
        assert data.count(b"\n") >= 100
    ours = snapshot(language, data)
    recorded = SAMPLES / f"{path.name}.snap"
    if os.environ.get("TOKENSCOPE_RECORD"):
        recorded.write_text(json.dumps(ours, indent=1, ensure_ascii=False) + "\n")
    assert ours == json.loads(recorded.read_text())
    assert ours["errors"] == 0


@pytest.mark.parametrize("language", LANGUAGES.names())
def test_the_sample_has_what_the_language_has(language):
    regions = parse(BY_LANGUAGE[language].read_bytes(), language)
    present = {name for name in LEVEL_BITS if len(regions.of(name))}
    expected = {"expression", "statement", "block", "file"}
    if language not in ("html", "css", "json", "bash"):
        expected.add("class")
    if language not in ("html", "css", "json", "sql"):
        expected.add("function")
    assert expected <= present
    categories = {CATEGORIES[c] for c in regions.category[regions.leaf].tolist()}
    if language != "json":
        assert {"punctuation", "comment", "string", "identifier"} <= categories
    named = [regions.names.get(i) for i in regions.of("function").tolist()]
    if named:
        assert any(named)


@pytest.mark.parametrize("language", LANGUAGES.names())
def test_what_no_entry_of_the_table_names_is_rare(language):
    data = BY_LANGUAGE[language].read_bytes()
    regions = parse(data, language)
    cells = align(tokens_of(data), regions)
    unnamed = cells.category == CATEGORIES.index("other")
    share = cells.weight[unnamed].sum() / len(data)
    kinds = {regions.kinds[k] for k in regions.kind[cells.region[unnamed]].tolist()}
    assert share < 0.02, kinds


@pytest.mark.parametrize("language", LANGUAGES.names())
def test_every_kind_in_the_table_exists_in_the_grammar(language):
    entry = LANGUAGES.get(language)
    kinds = set(entry.kinds)
    fields = (
        "expression", "statement", "block", "function", "klass", "keyword", "identifier", "type",
        "string", "number", "constant", "operator", "punctuation", "comment", "text",
    )  # fmt: skip
    words = {w for f in fields for w in getattr(entry, f).split()}
    unknown = {w for w in words if not set("*!") & set(w) and w not in kinds}
    assert not unknown


@pytest.mark.parametrize("language", LANGUAGES.names())
def test_a_broken_sample_still_partitions(language):
    data = BY_LANGUAGE[language].read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(3):
        at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 60))
        broken = data[:at] + data[at + size :]
        cells = align(tokens_of(broken), parse(broken, language))
        assert cells.weight.sum() == len(broken)


@pytest.mark.parametrize("language", LANGUAGES.names())
def test_the_language_is_found_by_name_fence_choice_and_content(language):
    path = BY_LANGUAGE[language]
    data = path.read_bytes()
    assert detect(b"", path.name) == language
    assert language_of_fence(f"{language} title=x") == language
    assert chosen(language.upper()) == language
    assert language_of_content(data) == language


def test_a_choice_wins_and_an_unknown_one_lists_the_known():
    assert detect(b"def f():", "x.js", choice="C++") == "cpp"
    with pytest.raises(UnknownName, match="python"):
        detect(b"", None, choice="cobol")
    assert detect(b"nothing that speaks for a language", "x.unknown") == "text"
    assert detect(b"#!/usr/bin/env python\nprint(1)\n") == "python"
    assert detect(b"def fib(n):\n") == "python"


def test_only_fences_of_markdown_are_code():
    data = (SAMPLES / "notes.md").read_bytes()
    found = fences(data)
    assert [f.info for f in found] == ["python", "go", "", "js"]
    assert [f.closed for f in found] == [True, True, True, False]
    regions = parse(data, "markdown")
    fence_regions = [r for r in regions if r.kind == "fence"]
    assert [r.name for r in fence_regions] == ["python", "go", "text", "javascript"]
    cells = align(tokens_of(data), regions)
    prose = cells.category == CATEGORIES.index("text")
    inside = np.zeros(len(cells), dtype=bool)
    for fence in found:
        inside |= (cells.start[:-1] >= fence.start) & (cells.start[1:] <= fence.end)
    assert prose[~inside].all()
    functions = regions.of("function").tolist()
    assert {regions.names.get(i) for i in functions} >= {"retry", "wait"}
    path = [r.label for r in regions.path(data.index(b"work()"))]
    assert path[:3] == ["markdown", "fence python", "function_definition retry"]


def test_shared_patterns_are_lists_of_globs():
    assert set(SHARED) <= {
        "comment", "string", "number", "constant", "identifier", "type", *LEVEL_BITS,
    }  # fmt: skip
