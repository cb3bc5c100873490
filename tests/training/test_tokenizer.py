"""Properties of the bundled tokenizer that other parts rely on."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.export import BUNDLED
from training.tokenizer import END, MIDDLE, PREFIX, SPECIALS, SUFFIX, train_tokenizer

TOKENIZER = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
encode = partial(TOKENIZER.encode, add_special_tokens=False)


def pieces() -> list[str]:
    """Every ordinary vocabulary entry, in the byte alphabet."""
    return [p for p in TOKENIZER.get_vocab() if p not in SPECIALS]


def test_the_vocabulary_has_its_size_and_specials_first() -> None:
    assert TOKENIZER.get_vocab_size() == 8192
    assert [TOKENIZER.token_to_id(s) for s in SPECIALS] == [0, 1, 2, 3]
    assert SPECIALS == [END, PREFIX, SUFFIX, MIDDLE]


def test_digits_stand_alone() -> None:
    assert [p for p in pieces() if any(c.isdigit() and c.isascii() for c in p) and len(p) > 1] == []
    ids = encode("x = 2024").ids
    assert [TOKENIZER.decode([i]) for i in ids[-4:]] == list("2024")


@pytest.mark.parametrize("width", [2, 4, 8, 12, 16, 20])
def test_an_indentation_is_one_token(width: int) -> None:
    tokens = encode("if x:\n" + " " * width + "return").tokens
    assert tokens[-2:] == ["Ġ" * width, "return"]


def test_no_token_spans_a_newline_and_what_follows() -> None:
    newline = "Ċ"
    bad = [p for p in pieces() if newline in p and p.strip("Ċč")]
    assert bad == []


def test_a_prompt_that_ends_at_a_line_end_splits_as_within_a_file() -> None:
    head, tail = "def fib(n):", "\n    return n\n"
    whole = encode(head + tail).ids
    assert whole == encode(head).ids + encode(tail).ids


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    ids = encode(text).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    "text", ["é ü ß", "你好", "👩‍💻", "a\r\nb\rc", "\t\t x", "\x00\x1f", "  \n  \n", "\u2028\ufeff"]
)
def test_odd_characters_survive_the_round_trip(text: str) -> None:
    assert TOKENIZER.decode(encode(text).ids) == text


def test_the_files_agree_with_each_other() -> None:
    config: dict[str, Any] = json.loads((BUNDLED / "config.json").read_text())
    words: dict[str, Any] = json.loads((BUNDLED / "tokenizer_config.json").read_text())
    generation: dict[str, Any] = json.loads((BUNDLED / "generation_config.json").read_text())
    assert config["vocab_size"] == TOKENIZER.get_vocab_size()
    assert config["max_position_embeddings"] == words["model_max_length"] == 2048
    assert TOKENIZER.token_to_id(words["eos_token"]) == config["eos_token_id"]
    assert generation["eos_token_id"] == config["eos_token_id"]


def test_training_a_tokenizer_gives_the_same_properties() -> None:
    small = train_tokenizer(["def f(x):\n        return x + 12\n" * 50], vocabulary=300)
    assert small.decode(small.encode("def g():\n    π = 3\n").ids) == "def g():\n    π = 3\n"
    assert small.encode("        return").tokens == ["Ġ" * 8, "return"]
