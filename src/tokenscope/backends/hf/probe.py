"""At load: does the recorder give what the family's own eager attention gives?

Some families lack the attention interface or have scores of their own; there a registered kernel
would be silently wrong. So eight tokens (more, to pass a short sliding window) go through both, as
a prefill and as steps, and on any difference the eager kernel is used and said so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tokenscope.backends.hf import int8, recorder
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
LIMIT = 1e-4  # float32: two kernels of one formula differ by about 1e-6
LIMIT_16 = 2e-2  # 16 bits: about eight roundings of bfloat16
SLACK = 3.0  # a 16-bit kernel may be this many times as far from float32 as the family's own
WINDOW = 64  # sliding windows up to this long are probed beyond their end


@dataclass(frozen=True, slots=True)
class Probe:
    """The kernel to use, the layers that have attention, and what to tell the user."""

    kernel: str
    layers: tuple[int, ...]
    notes: tuple[str, ...]
    compact: CompactStep | None = None


def probe(model: Any, pack: bool = True) -> Probe:
    """Compare recorder and eager on eight tokens; leaves the model on the kernel chosen.

    ``pack``: the lean step may make a packed copy of the weights.

    Raises AbilityError for a family whose cached steps do not equal its full forward.
    """
    vocab = int(model.get_input_embeddings().weight.shape[0])
    first = next(p for p in model.parameters() if p.device.type != "meta")  # others: on the disk
    ids = (torch.arange(_length(model.config), device=first.device) * 37 + 11)[None] % vocab
    with torch.inference_mode():
        try:
            model.set_attn_implementation("eager")
            logits, reference = _eager(model, ids)
        except Exception as error:
            raise AbilityError(f"its forward fails ({type(error).__name__})") from error
        if not torch.isfinite(logits).all():
            raise AbilityError("its logits are not finite")
        limit, against = LIMIT, "eager"
        if first.dtype != torch.float32 or int8.is_int8(model):
            (logits, reference), own = _exact(model, ids, logits, reference)
            limit = max(LIMIT_16, SLACK * own)
            against = f"float32 (the family's own: {own:.1e})"
        try:
            model.set_attn_implementation(recorder.KERNEL)
            worst, layers = _difference(model, ids, logits, reference)
        except Exception as error:  # noqa: BLE001 (the same)
            worst, layers = float("inf"), ()
            cause = type(error).__name__
        else:
            cause = f"differs by {worst:.1e}"
    if worst <= limit and len(layers) == len(reference):
        notes = [f"attention recorder checked against {against}: {worst:.1e}"]
        compact = compact_step(model, pack)
        if compact is not None:
            gap = _compact_difference(model, compact, ids, logits, reference)
            if gap <= limit:
                notes.append(f"lean step checked against {against}: {gap:.1e}")
                notes += [compact.note] if compact.note else []
            else:
                notes.append(f"lean step not used: it differs by {gap:.1e} from {against}")
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


def _eager(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Float32 logits (n, V) and attention (H, n, n) per layer of one full forward."""
    out = model(input_ids=ids, output_attentions=True, use_cache=False)
    found = getattr(out, "attentions", None) or ()
    return out.logits[0].float(), [a[0].float() for a in found if a is not None]


def _exact(
    model: Any, ids: torch.Tensor, logits: torch.Tensor, rows: list[torch.Tensor]
) -> tuple[tuple[torch.Tensor, list[torch.Tensor]], float]:
    """The same forward in float32, and how far the family's own 16-bit one is from it.

    Two 16-bit kernels round differently, so neither is a reference for the other: both are judged
    by their distance from float32. Where a family cannot run so, its 16-bit forward stands in.
    """
    try:
        with in_float32(model):
            exact = _eager(model, ids)
    except Exception:  # noqa: BLE001 (foreign code that insists on its dtype)
        return (logits, rows), LIMIT_16
    scale = float(exact[0].abs().max().clamp(min=1.0))
    own = float((exact[0] - logits).abs().max()) / scale
    for got, want in zip(rows, exact[1], strict=True):
        own = max(own, float((got - want).abs().max()))
    return exact, own


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Every module computes in float32: its weights are upcast while it runs, one at a time.

    So the reference costs the memory of one module, not that of a second model.
    """
    handles = []

    def widen(module: torch.nn.Module, _: Any) -> None:
        for p in module.parameters(recurse=False):
            if p.is_floating_point():
                kept[p] = p.data
                p.data = p.data.float()

    def restore(module: torch.nn.Module, _: Any, __: Any) -> None:
        for p in module.parameters(recurse=False):
            if p in kept:
                p.data = kept.pop(p)

    kept: dict[torch.nn.Parameter, torch.Tensor] = {}
    for module in model.modules():
        if any(True for _ in module.parameters(recurse=False)):
            handles.append(module.register_forward_pre_hook(widen))
            handles.append(module.register_forward_hook(restore, always_call=True))
    try:
        with int8.exact():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for p, data in kept.items():
            p.data = data


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
        worst = _larger(worst, (got - logits[start:end]).abs().max() / scale)
        for rows, want in zip([sink.rows[i] for i in layers], reference, strict=True):
            kept = end - rows.shape[-1]  # a memory that keeps a window has dropped the keys before
            rows = rows.to(want.device)  # layers may lie on several
            worst = _larger(worst, (rows - want[:, start:end, kept:end]).abs().max())
    return worst, layers


def _larger(worst: float, found: torch.Tensor | float) -> float:
    """The larger one; NaN counts as infinite (``max`` would drop it)."""
    value = float(found)
    return max(worst, value) if value == value else float("inf")


def _compact_difference(
    model: Any,
    compact: CompactStep,
    ids: torch.Tensor,
    logits: torch.Tensor,
    reference: list[torch.Tensor],
) -> float:
    """The same for the lean step; inf where it cannot run.

    One state is fed token by token and another, a fork, three at a time beside it; then a fork of
    each takes one token in one go: so one token, several, many states and chains are all seen.
    """
    tokens = ids[0].tolist()[: compact.limit]  # what a sliding window hides is not its business
    count = plain_layers(model.config) or 0
    scale = float(logits.abs().max().clamp(min=1.0))
    worst = 0.0

    def compare(at: int, got: object, rows: Sequence[torch.Tensor]) -> float:
        assert isinstance(got, torch.Tensor)
        n = len(got)
        gap = _larger(0.0, (got - logits[at : at + n]).abs().max() / scale)
        for row, want in zip(rows, reference, strict=True):
            gap = _larger(gap, (row - want[:, at : at + n, : at + n]).abs().max())
        return gap

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
                    worst = _larger(worst, compare(start, got, rows))
            ends = (4, min(6, len(tokens) - 1))
            pair = [[x.forked(n) for x in c] for n, c in zip(ends, (one, other), strict=True)]
            found = compact(
                [LeanFeed([tokens[n]], c, 1, 1) for n, c in zip(ends, pair, strict=True)]
            )
            for start, (got, rows) in zip(ends, found, strict=True):
                worst = _larger(worst, compare(start, got, rows))
    except (RuntimeError, ValueError, AttributeError, TypeError):
        return float("inf")
    return worst
