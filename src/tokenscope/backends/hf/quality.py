"""What rounding the weights costs, measured: int8 against the unquantised model, on one text.

The unquantised model need not fit: it is read layer by layer, once; its distributions are not
kept, only the figures, in a file named by the weights' digest.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tokenscope import disk
from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.backends.hf.deferred import DeferredLogits, splits
from tokenscope.backends.hf.offload import load_streaming
from tokenscope.errors import StoreError, TokenScopeError

TEXT = '''def read_table(path, separator=","):
    """Read a text file as rows; blank lines and comments are left out."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            cells = [cell.strip() for cell in line.split(separator)]
            if rows and len(cells) != len(rows[0]):
                raise ValueError(f"line {number}: {len(cells)} cells, expected {len(rows[0])}")
            rows.append(cells)
    return rows


class Counter:
    def __init__(self, limit=None):
        self.limit = limit
        self.counts = {}

    def add(self, key, amount=1):
        self.counts[key] = self.counts.get(key, 0) + amount
        if self.limit is not None and self.counts[key] > self.limit:
            self.counts[key] = self.limit
        return self.counts[key]

    def most_common(self, n=10):
        return sorted(self.counts.items(), key=lambda item: -item[1])[:n]
'''
BLOCK = 32  # rows that are compared at once
Logits = torch.Tensor | DeferredLogits


@dataclass(frozen=True, slots=True)
class Quality:
    """``kl``: mean KL(unquantised, int8) in nats a token; ``top1``: share of positions with the
    same likeliest token; over ``tokens`` positions of a piece of Python."""

    kl: float
    top1: float
    tokens: int

    @property
    def note(self) -> str:
        """In a sentence."""
        return (
            f"int8 against the unquantised weights, on {self.tokens} tokens of code: mean KL "
            f"{self.kl:.4f} nats, the likeliest token is the same in {100 * self.top1:.1f} %"
        )


def compare(want: Logits, got: Logits) -> Quality:
    """Logits (n, V) of both. KL(p, q) = sum p ln(p / q), in float64 over the whole vocabulary."""
    kl, same, count = 0.0, 0, int(want.shape[0])
    for start in range(0, count, BLOCK):
        p, q = (_some(x, slice(start, start + BLOCK)) for x in (want, got))
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        p, q = (torch.log_softmax(x.double(), -1) for x in (p, q))
        kl += float((q.sub_(p).neg_().mul_(p.exp_())).sum())
    return Quality(kl / count, same / count, count)


def _some(logits: Logits, rows: slice) -> torch.Tensor:
    part = logits[rows]
    return part.make().cpu() if isinstance(part, DeferredLogits) else part


def _logits(model: Any, feed: torch.Tensor, split: bool) -> Logits:
    """Logits (n, V) of one text; with ``split`` they are made when they are looked at."""
    if not split:
        found: torch.Tensor = model(input_ids=feed, use_cache=False).logits[0].float().cpu()
        return found
    hidden = model.model(input_ids=feed, use_cache=False).last_hidden_state[0]
    head = model.get_output_embeddings()
    return DeferredLogits(hidden, head, int(head.out_features))


def measured(
    model: Any, ids: list[int], checkpoint: Checkpoint, digest: str, cache: Path
) -> Quality | str:
    """The figures, from ``cache`` where they were measured before; or why there are none."""
    file = cache / f"{digest[:32]}-int8.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return Quality(**json.loads(file.read_text("utf-8")))
    feed = torch.tensor([ids])
    try:
        exact, _ = load_streaming(checkpoint, torch.float32, 0)
    except TokenScopeError as error:
        return f"int8 was not compared with the unquantised weights ({error})"
    with torch.inference_mode():
        split = splits(model)  # the whole (n, V) of both would be the peak of a small model
        device = next(iter(model.parameters())).device
        found = compare(_logits(exact, feed, split), _logits(model, feed.to(device), split))
    with suppress(StoreError):  # a cache that cannot be written costs time, no more
        disk.make_folder(cache)
        disk.write_whole(file, [json.dumps(asdict(found)).encode()])
    return found
