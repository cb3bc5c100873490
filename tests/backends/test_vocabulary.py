"""Bytes of tokens concatenate to the text, whatever the text and the kind of tokenizer."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tokenscope.backends.hf.infill import CONVENTIONS, find_marks
from tokenscope.backends.hf.vocabulary import Vocabulary
from tokenscope.errors import InputError
from tokenscope.runs.model import Model

EXAMPLES = int(os.environ.get("TOKENSCOPE_EXAMPLES", "500"))  # 10000 before a release
CORPUS = ["def f(x):\n    return x + 1\n", "class A:\n\tpass", "naïve façade — ☃ 漢字 🙂"] * 20
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200) | st.text(
    alphabet=st.sampled_from("ab \n\t(){}_0123é漢🙂\u202e\u200b\x00\r<|>"), max_size=300
)


def sentencepiece() -> Tokenizer:
    """A Llama-2-like vocabulary: metaspace, byte fallback, a space put before the text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    fallback = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *fallback], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def gpt2_like() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


VOCABULARIES = {"gpt2": Vocabulary(gpt2_like()), "sentencepiece": Vocabulary(sentencepiece())}


@pytest.mark.parametrize("kind", [*VOCABULARIES])
@settings(max_examples=EXAMPLES, deadline=None)
@given(text=TEXT)
def test_bytes_concatenate(kind: str, text: str) -> None:
    tokens = VOCABULARIES[kind].encode(text)
    assert tokens.data == text.encode()
    assert b"".join(t.bytes for t in tokens) == text.encode()


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=TEXT)
def test_bytes_concatenate_bundled(bundled: Model, text: str) -> None:
    tokens = bundled.backend.encode(text)
    assert tokens.data == text.encode()
    assert tokens.text == text
    plain = [t for t in tokens if not t.special]
    assert b"".join(bundled.backend.piece(t.id) for t in plain) == text.encode()


def test_special_literals_in_text_stay_text(bundled: Model) -> None:
    tokens = bundled.backend.encode("x <|endoftext|> y", bos=False)
    assert tokens.data == b"x <|endoftext|> y"
    assert not tokens.special.any()


def test_lone_surrogate_is_refused(bundled: Model) -> None:
    with pytest.raises(InputError, match="lone surrogate at character 1"):
        bundled.backend.encode("a\ud800b")


def test_unknown_id_is_refused(bundled: Model) -> None:
    for bad in (-1, 10**6):
        with pytest.raises(InputError, match="not in the vocabulary"):
            bundled.backend.piece(bad)


@pytest.mark.parametrize("names", CONVENTIONS)
def test_infill_conventions(names: tuple[str, str, str]) -> None:
    table = {name: n for n, name in enumerate(names)}
    marks = find_marks(table.get)
    assert marks is not None
    assert (marks.prefix, marks.suffix, marks.middle) == (0, 1, 2)
    table.pop(names[1])
    assert find_marks(table.get) is None


def test_infill_order(bundled: Model) -> None:
    tokens = bundled.backend.encode_infill("a = ", "\nprint(a)\n")
    assert [t.label for t in tokens if t.special] == [
        "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>",
    ]  # fmt: skip
    assert tokens[0].special
    assert tokens[len(tokens) - 1].special
    assert tokens.data == b"a = \nprint(a)\n"


def test_holes_between_ids_have_no_bytes() -> None:
    """A vocabulary's last id may lie far beyond the number of its tokens."""
    words = Tokenizer(models.WordLevel({"a": 0, "b": 7}, unk_token="a"))
    vocabulary = Vocabulary(words)
    assert vocabulary.size == 8
    assert (vocabulary.piece(7), vocabulary.label(7)) == (b"b", None)
    assert (vocabulary.piece(3), vocabulary.label(3)) == (b"", "<unused 3>")
    with pytest.raises(InputError, match="not in the vocabulary"):
        vocabulary.piece(8)
