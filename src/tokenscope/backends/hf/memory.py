"""What a folder would take in each number type, from its config and the headers of its files.

The shares were measured in fresh processes (``bench/plan.py``); what the machine adds by itself,
such as the libraries, is in ``BASE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.backends.hf.lean import READERS
from tokenscope.backends.need import MB, Need

BASE = 430 * MB  # Python, torch, transformers and what they keep once a model has been run
TEXT = 900  # bytes a vocabulary entry takes in the tokenizer and its tables
CHUNK = 2048  # tokens of a prompt that are read at once, at most
BLOCK = 64  # rows of logits that are made at once
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
INT8 = "int8"
COMPARED = 32  # tokens at a time when int8 is compared with the unquantised weights
PACKED_MOST = 1 << 30


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder. ``cached``: numbers that a token adds to the memory of keys and values;
    ``largest``: values of its largest tensor; ``embedding``: values of the token table;
    ``tied``: the output matrix is the token table; ``stored``: bytes of a value in its files."""

    values: int
    largest: int
    embedding: int
    tied: bool
    cached: int
    hidden: int
    inner: int
    vocab: int
    context: int | None
    lean: bool
    stored: int = 4


def shape_of(checkpoint: Checkpoint) -> Shape:
    """As far as config and headers tell; what they do not tell counts as 0."""
    config = checkpoint.config
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config = {**config, **inner}
    get = lambda *names: next((v for n in names if type(v := config.get(n)) is int and v > 0), 0)
    hidden = get("hidden_size", "n_embd", "d_model")
    heads = get("num_attention_heads", "n_head", "n_heads") or 1
    kv = get("num_key_value_heads", "num_kv_heads") or heads
    width = get("head_dim") or hidden // heads
    vocab = get("vocab_size")
    context = get("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
    tensors = checkpoint.tensors.values()
    return Shape(
        values=checkpoint.values, largest=max(t.values for t in tensors), embedding=vocab * hidden,
        tied="lm_head.weight" not in checkpoint.tensors,
        cached=2 * attention_layers(config) * kv * width, hidden=hidden,
        inner=get("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden, vocab=vocab,
        context=context or None, lean=config.get("model_type") in READERS,
        stored=max(t.stop - t.start for t in tensors) // max(t.values for t in tensors),
    )  # fmt: skip


def attention_layers(config: dict[str, Any]) -> int:
    """How many layers keep keys and values, by the config's own list of kinds if it has one."""
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(kinds, list) and kinds:
        return sum("attention" in str(k) and "linear" not in str(k) for k in kinds)
    if str(config.get("model_type", "")) in ("mamba", "mamba2", "falcon_mamba", "rwkv"):
        return 0
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    return next((v for n in names if type(v := config.get(n)) is int), 0)


def need(shape: Shape, way: str, context: int) -> Need:
    """Bytes at the peak of reading and writing ``context`` tokens as ``way``: a number type."""
    size = SIZES.get(way, 4)
    weights = shape.values * size
    rows = min(context, CHUNK)
    work = rows * (3 * shape.inner + 6 * shape.hidden) * size + 3 * BLOCK * shape.vocab * 4
    packed = 0
    if way == INT8:
        # codes, a scale a row, and what is no matrix; while it is compared with the unquantised
        # weights the token table as it is stored and wide, and the scores of a few tokens
        weights = shape.values + 4 * shape.values // max(shape.hidden, 1)
        work = max(work, shape.embedding * (4 + shape.stored) + COMPARED * shape.vocab * 8 * 3)
    elif size == 2:
        work = max(work, shape.largest * 4)  # the probe widens one module at a time
    elif shape.lean and weights <= PACKED_MOST:
        packed = weights - (0 if shape.tied else shape.embedding * size)
        work = max(work, shape.largest * size)  # in two places while it is packed
    return Need(
        BASE + shape.vocab * TEXT, weights, packed, shape.cached * context * size * 9 // 8, work
    )


def least(shape: Shape, way: str, context: int) -> Need:
    """The same with no weight in memory but the one that is in use: read, and widened."""
    size = SIZES[way]
    whole = need(shape, way, context)
    streamed = shape.largest * (2 * size) + shape.embedding * (0 if shape.tied else size)
    return Need(whole.base, 0, 0, whole.cache, max(whole.work, streamed))
