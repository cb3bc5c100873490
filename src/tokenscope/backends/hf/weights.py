"""Weights into memory, with nothing left to chance: all there, of their shape, all finite."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tokenscope.backends import loading, room
from tokenscope.backends.hf import int8_load, offload, spread
from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.backends.hf.claims import brief
from tokenscope.backends.hf.way import INT8, Way
from tokenscope.control import Cancelled
from tokenscope.errors import CapacityError, ModelError

FEW = 5
STORED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def load_weights(
    checkpoint: Checkpoint, way: Way, device: torch.device, where: dict[str, str] | None = None
) -> tuple[Any, list[str]]:
    """The model in eval mode on ``device``, and notes on what the files hold but it does not use.
    ``where``: which module lies on which of several devices.

    Raises ModelError by name for tensors that are missing (transformers would fill them with
    random numbers), of a wrong shape, or not finite.
    """
    if way.resident is not None:
        return _streaming(checkpoint, way, way.resident)
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    kind, coded = way.kind, way.name == INT8
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    copied = coded or STORED.get(kind) not in checkpoint.dtypes  # else tensors may be the pages
    loading.heard_by_transformers(partial(room.let_go, checkpoint.weights) if copied else None)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint.path, dtype=kind, local_files_only=True, trust_remote_code=False,
            use_safetensors=True, attn_implementation="eager", output_loading_info=True,
            ignore_mismatched_sizes=True, **(int8_load.options() if coded else {}),
            **({"device_map": where} if where else {}),
        )  # fmt: skip
    except (ModelError, Cancelled):
        raise
    except MemoryError:
        raise CapacityError(f"{checkpoint.path.name}: does not fit in memory") from None
    except Exception as error:  # a hostile or broken folder can raise anything
        raise ModelError(checkpoint.path, f"cannot be loaded ({brief(error)})") from error
    _check_report(checkpoint, report)
    _check_finite(checkpoint, model, kind)
    told = [int8_load.finish(model, checkpoint.path)] if coded else []
    model = spread.hooked(model, where) if where else model.to(device)
    model = model.eval().requires_grad_(False)
    return model, [*told, *_unused(report)]


def _streaming(checkpoint: Checkpoint, way: Way, resident: int) -> tuple[Any, list[str]]:
    model, streamed = offload.load_streaming(checkpoint, way.kind, resident)
    whole = sum(t.stop - t.start for t in checkpoint.tensors.values())
    took = offload.seconds_a_pass(checkpoint, way.kind, streamed / max(whole, 1))
    return model, [
        f"{streamed / 1e6:.0f} MB are read from the files at every pass: at least {took:.1f} s for "
        "a token, or for a prompt of any length; explanations need the weights in memory"
    ]


def _check_report(checkpoint: Checkpoint, report: dict[str, Any]) -> None:
    where = checkpoint.weights[0] if len(checkpoint.weights) == 1 else checkpoint.path
    wrong = sorted(report.get("mismatched_keys") or (), key=str)
    if wrong:
        name, got, want = (*wrong[0], "?", "?")[:3]
        raise ModelError(
            where, f"tensor {name!r} has shape {list(got)}; config.json asks for {list(want)}"
        )
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise ModelError(
            where, f"lacks {len(missing)} tensor(s) that the model needs: {_few(missing)}"
        )
    errors = report.get("error_msgs") or ()
    if errors:
        raise ModelError(where, f"cannot be loaded ({str(errors[0])[:200]})")


def _check_finite(checkpoint: Checkpoint, model: Any, kind: torch.dtype) -> None:
    """A sum is finite only if all its terms are; where it is not, the terms are looked at."""
    for name, values in model.named_parameters():
        if not values.is_floating_point() or values.element_size() < 2:
            continue
        if torch.isfinite(values.sum(dtype=torch.float32)) or torch.isfinite(values).all():
            continue
        bad = int((~torch.isfinite(values)).sum())
        stored = checkpoint.tensors.get(name)
        where = stored.file if stored is not None else checkpoint.path
        hint = ""
        if kind == torch.float16 and (stored is None or stored.dtype != "F16"):
            hint = " as float16, which ends at 65,504; load it as bfloat16 or float32"
        raise ModelError(
            where, f"tensor {name!r} holds {bad} values that are not finite (NaN or infinite){hint}"
        )


def _unused(report: dict[str, Any]) -> list[str]:
    unused = sorted(report.get("unexpected_keys") or ())
    if not unused:
        return []
    return [f"{len(unused)} stored tensor(s) are not used by this architecture: {_few(unused)}"]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(n[:120] for n in names[:FEW]) + more
