"""The byte-level BPE of the bundled model.

Digits are single tokens, runs of spaces are tokens, and a newline always ends a token, so a
prompt that stops at a line's end splits exactly as it would inside a file.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

END, PREFIX, SUFFIX, MIDDLE = "<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
SPECIALS = [END, PREFIX, SUFFIX, MIDDLE]  # ids 0 to 3
VOCABULARY = 8192
CONTEXT = 2048
PIECES = r"[\r\n]+| {2,}|\t+| ?[\p{L}_]+|\p{N}| ?[^\s\p{L}\p{N}_]+|\s"


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learns the merges from texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        max_token_length=24,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer in the form that transformers saves and loads.

    It puts the end-of-text token before a text: in training every document stood behind one.
    """
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A $B:1", special_tokens=[(END, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        additional_special_tokens=SPECIALS[1:],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
