"""The file of a trace: what other libraries see in it, hostile files, attention on demand."""

from __future__ import annotations

import json
import random
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import tokenscope as ts
from bench.traces import arrays, fuzz, header, oddly_zipped, sample, zipped
from tokenscope.errors import InputError, StoreDamaged, StoreGone
from tokenscope.trace import Attention, Trace, attention
from tokenscope.trace.container import Stored
from tokenscope.trace.files import AT_ONCE


def equal(a: Trace, b: Trace) -> None:
    """Every value of two traces is the same."""
    assert a.ids.tolist() == b.ids.tolist()
    assert (a.tokens.data, a.tokens.labels) == (b.tokens.data, b.tokens.labels)
    assert (a.n_prompt, a.finish, a.language, a.origin) == (
        b.n_prompt, b.finish, b.language, b.origin,
    )  # fmt: skip
    assert {n: c.quality for n, c in a.columns.items()} == {
        n: c.quality for n, c in b.columns.items()
    }
    for name in a.columns:
        np.testing.assert_array_equal(a.column(name), b.column(name))
    if a.alternatives is not None:
        assert b.alternatives is not None
        np.testing.assert_array_equal(a.alternatives.ids, b.alternatives.ids)
        np.testing.assert_array_equal(a.alternatives.logprobs, b.alternatives.logprobs)
        assert a.alternatives.pieces == b.alternatives.pieces
        assert a.alternatives.labels == b.alternatives.labels
    assert (a.attention is None) == (b.attention is None)
    if a.attention is not None and b.attention is not None:
        assert (a.attention.first, a.attention.count) == (b.attention.first, b.attention.count)
        for t in range(a.attention.first, len(a)):
            np.testing.assert_array_equal(a.attention.block(t), b.attention.block(t))


@pytest.mark.parametrize("form", ["top", "full", "none"])
def test_both_formats_come_back(form: str, tmp_path: Path) -> None:
    made = sample(form).with_column("bits", np.ones(24, np.float32), "bound")
    equal(ts.read(made.save(tmp_path / "new")), made)
    equal(Trace.from_bytes(made.to_bytes()), made)
    (tmp_path / "old").write_bytes(zipped(header(made), arrays(made)))
    equal(ts.read(tmp_path / "old"), made)


def test_other_libraries_read_it(tmp_path: Path) -> None:
    made = sample("top")
    found = load_file(made.save(tmp_path / "t"))
    np.testing.assert_array_equal(found["ids"], made.ids)
    np.testing.assert_array_equal(found["columns"][0], made.column("entropy"))
    assert made.attention is not None
    np.testing.assert_array_equal(found["attention.keys"], made.attention.keys)


def test_tampered_files_are_refused_by_name(tmp_path: Path) -> None:
    """A sample of `bench/traces.py`, which runs 10,000."""
    ends, raw, _ = fuzz(250, 7, tmp_path)
    assert raw == []
    assert ends["InputError"] > 150


def test_nothing_unfolds_beyond_measure(tmp_path: Path) -> None:
    rng, path = random.Random(1), tmp_path / "bomb"
    bomb = b""
    while len(bomb) < 200_000:  # 3 million tokens of zeros: 300 MB from a file a thousandth of it
        bomb = oddly_zipped(sample("none"), rng)
    path.write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="unfold"):
        ts.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def large(tokens: int) -> Trace:
    """A trace with several MiB of full attention."""
    rows = [np.full(t, t, np.float16) for t in range(1, tokens) for _ in range(4)]
    made = sample("none", tokens)
    held = Attention("full", (0,), 4, 1, np.concatenate(rows))
    assert held.nbytes > AT_ONCE
    return Trace(made.tokens, 8, made.columns, None, held, made.origin)


def test_attention_stays_in_the_file_until_it_is_asked_for(tmp_path: Path) -> None:
    made = large(800)
    path = made.save(tmp_path / "t")
    back = ts.read(path)
    assert back.attention is not None
    assert isinstance(back.attention.weights, Stored)
    assert back.attention.held == 0
    assert back.attention.nbytes == made.attention.nbytes  # type: ignore[union-attr]
    assert back.attention.block(700).tolist() == np.full((1, 4, 700), 700.0).tolist()
    equal(back.cut(500), made.cut(500))
    path.unlink()  # whoever reads it goes on reading it
    equal(back, made)
    # a branch after rows in a file: they stay there, and are copied from file to file
    assert made.attention is not None
    later = Attention("full", (0,), 4, 800, np.full(4 * 800, 9, np.float16))
    joined = attention.join([back.attention, later])
    assert joined is not None
    assert (joined.first, joined.count) == (1, 800)
    assert joined.held == later.nbytes
    assert joined.block(800)[0, 3, 5] == 9
    assert joined.block(300)[0, 0, 0] == 300
    assert joined.only(800).count == 1
    cut = joined.between(790, 801)
    assert cut is not None
    assert [b.first for b in cut.blocks()] == [790, 800]


def test_a_file_cut_short_under_a_reader_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = large(800).save(tmp_path / "t")
    back = ts.read(path)
    with open(path, "r+b") as file:
        file.truncate(4000)
    assert back.attention is not None
    with pytest.raises(StoreDamaged, match="cut short"):
        back.attention.block(700)


def test_saving_keeps_what_was_there(tmp_path: Path) -> None:
    path = sample("top").save(tmp_path / "t")
    whole = path.read_bytes()
    with pytest.raises(StoreGone, match="nowhere"):
        sample("top").save(tmp_path / "nowhere" / "t")
    ts.read(path).with_column("more", np.zeros(24, np.float32)).save(path)
    assert path.read_bytes() != whole
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(InputError):
            ts.read(path)


def test_wrong_shapes_and_types_are_refused(tmp_path: Path) -> None:
    """Each of these would be read by a reader that trusts the arrays."""
    made, path = sample("top"), tmp_path / "t"
    whole = arrays(made)
    for name, wrong in (
        ("attention.keys", whole["attention.keys"].astype(np.int32)),
        ("attention.keys", whole["attention.keys"][:-1]),
        ("attention.sink", whole["attention.sink"].astype(np.float32)),
        ("attention.weights", whole["attention.weights"][:, :1]),
        ("column.entropy", whole["column.entropy"].astype(np.int32)),
        ("alternatives.logprobs", whole["alternatives.logprobs"].astype(np.float16)),
        ("ids", whole["ids"].astype(np.int64)),
    ):
        path.write_bytes(zipped(header(made), {**whole, name: wrong}))
        with pytest.raises(InputError, match=name):
            ts.read(path)


def test_arrays_may_not_lie_over_one_another(tmp_path: Path) -> None:
    data = sample("top").to_bytes()
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])
    about["attention.rest"]["data_offsets"] = about["attention.sink"]["data_offsets"]
    text = json.dumps(about).encode()
    with pytest.raises(InputError, match="follow"):
        Trace.from_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
