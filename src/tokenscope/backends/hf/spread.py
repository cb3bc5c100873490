"""A model that is larger than one card: its layers on several, in order, each where there is room.

accelerate plans (on a model without memory, so that nothing is allocated twice) and moves what
passes from one card to the next. Rows and logits come back to the card of the token table, where
they are measured. What needs the inside (explanations) is for one card.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tokenscope.backends import room
from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.errors import CapacityError, InputError

SHARE = 0.9  # of what is free on a card: the rest is for memories and passes


def devices(asked: str | None) -> list[torch.device]:
    """The devices that are meant: names with commas between; None, ``auto`` and ``cuda``: every
    card there is, or the CPU. Raises InputError for one that is not there."""
    if asked in (None, "auto", "cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count > 1:
            return [torch.device("cuda", n) for n in range(count)]
        if asked != "cuda":
            return [torch.device("cuda" if count else "cpu")]
    found = []
    for name in str(asked).split(","):
        try:
            place = torch.device(name.strip())
            torch.empty(1, device=place)
        except (RuntimeError, AssertionError) as error:
            raise InputError("device", f"{name.strip()[:40]!r} is not available here") from error
        found.append(place)
    if len(found) > 1 and len({p.type for p in found}) > 1:
        raise InputError("device", "several devices must be of one kind")
    return found


def free(places: Sequence[torch.device]) -> list[int]:
    """Bytes that are free on each; what is named twice is shared."""
    out = []
    for place in places:
        whole = room.free() if place.type != "cuda" else int(torch.cuda.mem_get_info(place)[0])
        out.append(whole // places.count(place))
    return out


def narrowed(
    places: list[torch.device], asked: str | None, checkpoint: Checkpoint, size: int
) -> list[torch.device]:
    """All of them where they were named, or where one is too small for ``size`` bytes a value."""
    named = asked is not None and "," in asked
    if named or len(places) == 1 or checkpoint.values * size > SHARE * free(places[:1])[0]:
        return places
    return places[:1]


def plan(
    checkpoint: Checkpoint, kind: torch.dtype, places: Sequence[torch.device],
    room_on: Sequence[int],
) -> dict[str, str]:  # fmt: skip
    """Module -> device, layers in order: an even share on each device, or as much as there is room
    for. ``room_on``: bytes for weights on each device.

    Raises CapacityError where they do not fit together.
    """
    from accelerate import infer_auto_device_map, init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        checkpoint.path, local_files_only=True, trust_remote_code=False
    )
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=False)
    model.tie_weights()
    whole = list(model._no_split_modules or ())
    blocks = [m for m in model.modules() if type(m).__name__ in whole or m is _table(model)]
    largest = max((_size(b) for b in blocks), default=0)
    even = _size(model) // len(places) + largest
    for most in ([min(n, even * kind.itemsize) for n in room_on], room_on):
        found = infer_auto_device_map(
            model, max_memory=dict(enumerate(int(n) for n in most)), dtype=kind,
            no_split_module_classes=whole,
        )  # fmt: skip
        if all(type(number) is int for number in found.values()):
            break
    if any(type(number) is not int for number in found.values()):
        need = checkpoint.values * kind.itemsize
        raise CapacityError(
            f"{checkpoint.path.name}: its weights need {need / 1e9:.1f} GB as "
            f"{str(kind).removeprefix('torch.')}; {len(places)} devices together have "
            f"{sum(room_on) / 1e9:.1f} GB for them, and no layer is cut in two"
        )
    return {name: str(places[number]) for name, number in found.items()}


def _size(module: Any) -> int:
    return sum(int(p.numel()) for p in module.parameters())


def _table(model: Any) -> Any:
    return model.get_input_embeddings()


def hooked(model: Any, where: dict[str, str]) -> Any:
    """The loaded model with the moves between its devices in place."""
    if not hasattr(model, "_hf_hook"):  # transformers has put them where the devices differ
        from accelerate import dispatch_model

        skip = getattr(model, "_skip_keys_device_placement", None)
        model = dispatch_model(model, where, force_hooks=True, skip_keys=skip)
    model.hf_device_map = where
    return model
