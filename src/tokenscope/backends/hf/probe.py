"""At load: does the recorder give what the family's own eager attention gives?

Some families lack the attention interface or have scores of their own; there a registered kernel
would be silently wrong. So eight tokens go through both, as a prefill and as steps, and on any
difference the eager kernel is used and said so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tokenscope.backends.hf import recorder
from tokenscope.backends.hf.cache import (
    GrowingLayer,
    cache_argument,
    growing_cache,
    plain_layers,
)
from tokenscope.backends.hf.compact import CompactStep, LeanFeed, compact_step
from tokenscope.errors import AbilityError

TOKENS = 8
SPLIT = 5
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


@dataclass(frozen=True, slots=True)
class Probe:
    """The kernel to use, the layers that have attention, and what to tell the user."""

    kernel: str
    layers: tuple[int, ...]
    notes: tuple[str, ...]
    compact: CompactStep | None = None


def probe(model: Any) -> Probe:
    """Compare recorder and eager on eight tokens; leaves the model on the kernel chosen.

    Raises AbilityError for a family whose cached steps do not equal its full forward.
    """
    vocab = int(model.get_input_embeddings().weight.shape[0])
    device = next(iter(model.parameters())).device
    ids = (torch.arange(TOKENS, device=device) * 37 + 11)[None] % vocab
    with torch.inference_mode():
        try:
            model.set_attn_implementation("eager")
            eager = model(input_ids=ids, output_attentions=True, use_cache=False)
            reference = [
                a[0].float() for a in (getattr(eager, "attentions", None) or ()) if a is not None
            ]
            logits = eager.logits[0].float()
        except Exception as error:
            raise AbilityError(f"its forward fails ({type(error).__name__})") from error
        try:
            model.set_attn_implementation(recorder.KERNEL)
            worst, layers = _difference(model, ids, logits, reference)
        except Exception as error:  # noqa: BLE001 (the same)
            worst, layers = float("inf"), ()
            cause = type(error).__name__
        else:
            cause = f"differs by {worst:.1e}"
    limit = TOLERANCE.get(next(iter(model.parameters())).dtype, 1e-4)
    if worst <= limit and len(layers) == len(reference):
        notes = [f"attention recorder checked against eager: {worst:.1e}"]
        compact = compact_step(model)
        if compact is not None:
            gap = _compact_difference(model, compact, ids, logits, reference)
            if gap <= limit:
                notes.append(f"lean step checked against eager: {gap:.1e}")
            else:
                compact = None
        return Probe(recorder.KERNEL, layers, tuple(notes), compact)
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            worst, _ = _difference(model, ids, logits, [])
    except Exception as error:
        raise AbilityError(f"its memory cannot be stepped ({type(error).__name__})") from error
    if worst > limit:  # logits of steps would be silently wrong
        raise AbilityError(f"its cached steps differ from its full forward by {worst:.1e}")
    note = f"eager attention is used: the recorder does not fit this family ({cause})"
    return Probe("eager", tuple(range(len(reference))), (note,) if reference else ())


def _difference(
    model: Any, ids: torch.Tensor, logits: torch.Tensor, reference: list[torch.Tensor]
) -> tuple[float, tuple[int, ...]]:
    """Largest difference of logits (relative to their scale) and rows, and the layers seen."""
    from transformers.cache_utils import DynamicCache

    plain = plain_layers(model.config)
    cache: Any
    if plain is not None:
        cache = growing_cache([GrowingLayer() for _ in range(plain)])
    else:
        cache = DynamicCache(config=model.config)
    worst = 0.0
    layers: tuple[int, ...] = ()
    spans = [(0, SPLIT), *((i, i + 1) for i in range(SPLIT, TOKENS))]
    scale = float(logits.abs().max().clamp(min=1.0))
    for start, end in spans:
        positions = torch.arange(start, end, device=ids.device)[None]
        with recorder.recording(end - start) as sink:
            out = model(
                input_ids=ids[:, start:end], position_ids=positions, use_cache=True,
                **{cache_argument(model): cache},
            )  # fmt: skip
        assert sink is not None
        layers = tuple(sorted(sink.rows))
        got = out.logits[0].float()
        worst = max(worst, float((got - logits[start:end]).abs().max()) / scale)
        for rows, want in zip([sink.rows[i] for i in layers], reference, strict=True):
            keys = rows.shape[-1]
            worst = max(worst, float((rows - want[:, start:end, :keys]).abs().max()))
    if worst != worst:
        worst = float("inf")
    return worst, layers


def _compact_difference(
    model: Any,
    compact: CompactStep,
    ids: torch.Tensor,
    logits: torch.Tensor,
    reference: list[torch.Tensor],
) -> float:
    """The same for the lean step; inf where it cannot run.

    One state is fed token by token; another three at a time beside it, after a fork in the middle
    of its second feed, so that one token, several, many states and a chain of blocks are all seen.
    """
    tokens = ids[0].tolist()
    count = plain_layers(model.config) or 0
    scale = float(logits.abs().max().clamp(min=1.0))
    worst = 0.0

    def compare(at: int, got: torch.Tensor | None, rows: list[torch.Tensor]) -> float:
        assert got is not None
        n = len(got)
        worst = float((got - logits[at : at + n]).abs().max()) / scale
        for row, want in zip(rows, reference, strict=True):
            worst = max(worst, float((row - want[:, at : at + n, : at + n]).abs().max()))
        return worst

    try:
        with torch.inference_mode():
            one = [GrowingLayer() for _ in range(count)]
            other = [GrowingLayer() for _ in range(count)]
            compact([LeanFeed(tokens[:4], other, 0, 0)])
            other = [layer.forked(2) for layer in other]
            for t, token in enumerate(tokens):
                at = 2 + 3 * t
                feeds = [LeanFeed([token], one, 1, 1)]
                if at + 3 <= len(tokens):
                    feeds.append(LeanFeed(tokens[at : at + 3], other, 3, 3))
                for start, (got, rows) in zip((t, at), compact(feeds), strict=False):
                    worst = max(worst, compare(start, got, rows))
    except (RuntimeError, ValueError, AttributeError, TypeError):
        return float("inf")
    return worst if worst == worst else float("inf")
