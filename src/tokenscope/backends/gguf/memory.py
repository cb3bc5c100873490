"""What a GGUF file would take: the process that runs it, and this one."""

from __future__ import annotations

from tokenscope.backends.gguf.header import GgufHeader
from tokenscope.backends.need import MB, Need

BASE = 255 * MB + 70 * MB  # this process (torch is loaded, and runs nothing), and the worker's
TEXT = 900  # bytes a vocabulary entry takes in the tables of both
CELLS = 16_384  # as `load` makes them
BATCH = 512


def need(header: GgufHeader, context: int) -> Need:
    """Bytes at the peak. Its memory of keys and values is made whole at load, for all branches."""
    number = lambda key: header.number(key) or 0
    heads = number("attention.head_count") or 1
    hidden = number("embedding_length")
    kv = number("attention.head_count_kv") or heads
    width = number("attention.key_length") or hidden // heads
    vocab = header.lists.get("tokenizer.ggml.tokens", 0)
    size = 4 if header.kind == "float32" else 2
    cells = max(CELLS, context)
    return Need(
        BASE + vocab * TEXT,
        header.size,
        0,
        2 * number("block_count") * kv * width * size * cells,
        BATCH * vocab * 4,
    )
