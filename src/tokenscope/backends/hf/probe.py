"""At load: does the recorder give what the family's own eager attention gives?

Some families lack the attention interface or have scores of their own; there a registered kernel
would be silently wrong. So eight tokens (more, to pass a short sliding window) go through both, as
a prefill and as steps, and on any difference the eager kernel is used and said so.
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
from tokenscope.backends.hf.compact import CompactStep, compact_step
from tokenscope.errors import AbilityError

TOKENS = 8
SPLIT = 5
# windows up to this long are probed beyond their end
WINDOW = 64
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
    ids = (torch.arange(_length(model.config), device=device) * 37 + 11)[None] % vocab
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


def _length(config: Any) -> int:
    """How many tokens to probe with: past the end of the smallest short sliding window."""
    config = config.get_text_config(decoder=True)
    names = ("sliding_window", "attention_window_size")
    found = [w for n in names if isinstance(w := getattr(config, n, None), int) and 0 < w <= WINDOW]
    return max(TOKENS, min(found, default=0) + 3)


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
    spans = [(0, SPLIT), *((i, i + 1) for i in range(SPLIT, ids.shape[1]))]
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
            kept = end - rows.shape[-1]  # a memory that keeps a window has dropped the keys before
            worst = max(worst, float((rows - want[:, start:end, kept:end]).abs().max()))
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
    """The same for the lean step, fed one token at a time; inf where it cannot run."""
    cache = [GrowingLayer() for _ in range(plain_layers(model.config) or 0)]
    scale = float(logits.abs().max().clamp(min=1.0))
    worst = 0.0
    try:
        with torch.inference_mode():
            for t, token in enumerate(ids[0].tolist()):
                got, rows = compact(token, cache, True)
                worst = max(worst, float((got[0] - logits[t]).abs().max()) / scale)
                for row, want in zip(rows, reference, strict=True):
                    worst = max(worst, float((row[:, 0] - want[:, t, : t + 1]).abs().max()))
    except (RuntimeError, ValueError, AttributeError, TypeError):
        return float("inf")
    return worst if worst == worst else float("inf")
