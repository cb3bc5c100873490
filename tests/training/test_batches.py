"""Rows of ids: packing, infilling, and continuing where a stream stopped."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.batches import END, MIDDLE, PREFIX, SUFFIX, Rows, TokenStore, cut_middle, infill_ids
from training.export import BUNDLED

TOKENIZER = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
TEXT = "def f(x):\n    if x:\n        return 1\n    return 'é'\n\n\ndef g():\n    pass\n"


def store(documents: int = 12) -> TokenStore:
    return TokenStore.encode(
        TOKENIZER, [f"# file {i}\n" + TEXT * (1 + i) for i in range(documents)]
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_loses_nothing(seed: int) -> None:
    prefix, middle, suffix = cut_middle(TEXT, np.random.default_rng(seed))
    assert prefix + middle + suffix == TEXT


def test_infilling_is_prefix_suffix_middle_end() -> None:
    ids = infill_ids(TOKENIZER, "a = ", "1", "\nb = 2\n")
    marks = [ids.index(m) for m in (PREFIX, SUFFIX, MIDDLE)]
    assert marks == sorted(marks)
    assert ids[0] == PREFIX
    assert ids[-1] == END
    assert TOKENIZER.decode(ids[marks[2] + 1 : -1]) == "1"
    assert TOKENIZER.decode(ids[1 : marks[1]]) == "a = "
    assert TOKENIZER.decode(ids[marks[1] + 1 : marks[2]]) == "\nb = 2\n"


def test_rows_have_their_length_and_about_half_of_the_documents_are_infilled() -> None:
    rows = Rows(store(), TOKENIZER, seed=0)
    batch = rows.batch(200, 128)
    assert batch.shape == (200, 129)
    assert batch.max() < 8192
    assert 0.2 < (batch == MIDDLE).any(1).mean() < 0.8


def test_neighbouring_rows_come_from_different_documents() -> None:
    rows = Rows(store(), TOKENIZER, seed=0, lanes=4)
    before = {lane.document for lane in rows.lanes}
    assert len(before) == 4


def test_a_restored_stream_continues_exactly() -> None:
    one, two = (Rows(store(), TOKENIZER, seed=3, lanes=5) for _ in range(2))
    one.batch(7, 64)
    state = one.state()
    expected = one.batch(40, 64)
    two.restore(state)
    assert np.array_equal(two.batch(40, 64), expected)


def test_an_epoch_shows_every_document() -> None:
    rows = Rows(store(6), TOKENIZER, seed=1, lanes=2)
    seen: set[int] = set()
    while rows.epoch == 0:
        seen |= {lane.document for lane in rows.lanes}
        rows.row(64)
    assert seen == set(range(6))
