"""Collecting, cleaning, de-duplicating and splitting, on texts made here."""

import json
from pathlib import Path

import pytest

from training import corpus
from training.corpus import Deduplicator, Document


def code(seed: int, lines: int = 40) -> str:
    """Python that shares no line pair with that of another seed."""
    return "".join(f"value_{seed}_{i} = compute(step={i}, of={seed})\n" for i in range(lines))


def doc(name: str, text: str, package: str = "stdlib") -> Document:
    return Document(package, name, "MIT", text)


@pytest.mark.parametrize(
    ("stated", "allowed"),
    [
        ("MIT", True),
        ("BSD-3-Clause", True),
        ("Apache-2.0 OR BSD-2-Clause", True),
        ("Apache 2.0", True),
        ("MPL-2.0", False),
        ("MPL-2.0 AND MIT", False),
        ("GPL-3.0-only", False),
        ("LGPLv2", False),
        ("BSD-3-Clause AND LGPL-2.1", False),
        ("", False),
    ],
)
def test_only_permissive_licences_pass(stated: str, allowed: bool) -> None:
    assert corpus.is_permissive(stated) is allowed


def test_cleaning_removes_a_licence_header_only() -> None:
    text = "#!/usr/bin/env python\r\n# Copyright X.\r\n\r\nimport os  \r\n"
    assert corpus.clean(text) == "import os\n"
    assert corpus.clean("# A note on what follows\nimport os\n").startswith("# A note")


def test_tables_and_broken_code_are_left_out() -> None:
    assert corpus.looks_written("def f(x):\n    return x\n" * 40)
    assert not corpus.looks_written("table = [" + "12345, " * 200 + "]\n")
    assert not corpus.looks_written("print 'python two'\n" * 40)


def test_copies_and_near_copies_are_refused() -> None:
    keep = Deduplicator()
    first = doc("a.py", code(1))
    assert keep.admit(first)
    assert not keep.admit(doc("b.py", first.text))
    assert not keep.admit(doc("c.py", code(1, 30) + code(2, 10)))
    assert not keep.admit(doc("d.py", first.text.replace("value", "    value")))
    assert keep.admit(doc("e.py", code(3, 30) + code(1, 5)))


def test_no_training_file_resembles_a_held_out_one() -> None:
    documents = [doc(f"{i}.py", code(i)) for i in range(40)]
    documents += [doc(f"copy{i}.py", code(i) + "extra = True\n") for i in range(40)]
    train, heldout = corpus.split(documents, None, cap=None, every=8)
    assert len(heldout) == 5
    assert not {d.digest for d in train} & {d.digest for d in heldout}
    for held in heldout:
        pairs = corpus.line_pairs(held.text)
        for d in train:
            assert len(pairs & corpus.line_pairs(d.text)) < 0.4 * len(pairs)


def test_a_written_list_is_held_out_again(tmp_path: Path) -> None:
    documents = [doc(f"{i}.py", code(i)) for i in range(40)]
    train, heldout = corpus.split(documents, None, cap=None, every=8)
    corpus.write_heldout(heldout, tmp_path / "list.json")
    names = corpus.read_heldout_names(tmp_path / "list.json")
    more = [*documents, *(doc(f"new{i}.py", code(100 + i)) for i in range(10))]
    train2, heldout2 = corpus.split(more, set(names), cap=None)
    assert {d.name for d in heldout2} == set(names)
    assert not {d.name for d in train2} & set(names)
    assert len(train2) == len(train) + 10


def test_a_cap_limits_packages_but_not_the_standard_library() -> None:
    many = [doc(f"{i}.py", code(i), "pkg") for i in range(20)]
    many += [doc(f"{i}.py", code(100 + i)) for i in range(20)]
    size = len(many[0].text)
    train, heldout = corpus.split(many, None, cap=5 * size + 50, every=100)
    packages = [d.package for d in train + heldout]
    assert packages.count("stdlib") == 20
    assert 1 <= packages.count("pkg") <= 5


def test_documents_are_read_back_as_they_were(tmp_path: Path) -> None:
    documents = [doc("a.py", "é = 'ß'\n")]
    corpus.save(documents, tmp_path / "x.jsonl")
    assert corpus.load(tmp_path / "x.jsonl") == documents


def test_the_committed_list_names_each_file_once_with_its_digest() -> None:
    rows = json.loads(corpus.HELDOUT_LIST.read_text())
    assert len({row["name"] for row in rows}) == len(rows) >= 50
    assert all(len(row["sha256"]) == 64 for row in rows)
