"""A model that is larger than its ceiling: what fits stays, the rest is read from its files anew at
every pass, one module at a time (accelerate's hooks). Exact, and as slow as the disk and the
conversion are.

Loading reads only what stays, and by ``read`` rather than by mapping, so that the ceiling holds
while it loads as well.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from tokenscope.backends import loading
from tokenscope.backends.hf.checkpoint import Checkpoint
from tokenscope.backends.hf.claims import stored_as
from tokenscope.backends.hf.headers import Stored, data_begins
from tokenscope.errors import CapacityError, ModelError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read(stored: Stored) -> torch.Tensor:
    """One tensor of a file, in the type that it is stored in. Raises ModelError, OSError."""
    if stored.dtype not in DTYPES:
        raise ModelError(stored.file, f"holds {stored.dtype} numbers, which cannot be streamed")
    raw = np.fromfile(
        stored.file, np.uint8, stored.stop - stored.start,
        offset=data_begins(stored.file) + stored.start,
    )  # fmt: skip
    if raw.nbytes != stored.stop - stored.start:
        raise ModelError(stored.file, "was cut short while it was read")
    return torch.from_numpy(raw).view(DTYPES[stored.dtype]).reshape(stored.shape)


def load_streaming(checkpoint: Checkpoint, kind: torch.dtype, resident: int) -> tuple[Any, int]:
    """The model in eval mode with at most ``resident`` bytes of weights in memory, and how many
    bytes every pass reads from the files.

    Raises ModelError for a family whose tensors are not stored one by one as it uses them,
    CapacityError when even the token table does not fit into ``resident`` (0: nothing has to).
    """
    from accelerate import dispatch_model, infer_auto_device_map, init_empty_weights
    from accelerate.utils import set_module_tensor_to_device
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        checkpoint.path, local_files_only=True, trust_remote_code=False
    )
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=kind, trust_remote_code=False, attn_implementation="eager"
        )
    model.tie_weights()
    model = model.eval().requires_grad_(False)
    table = model.get_input_embeddings().weight
    names = {n: stored_as(checkpoint, n, model) for n, _ in model.named_parameters()}
    absent = [n for n, s in names.items() if s is None]
    if absent:
        raise ModelError(
            checkpoint.path, f"cannot be read from the disk piece by piece: {absent[0]!r} is put "
            "together from several stored tensors; load it as int8 or bfloat16",
        )  # fmt: skip
    if 0 < resident < table.numel() * kind.itemsize:
        raise CapacityError(
            f"{checkpoint.path.name}: its token table alone takes "
            f"{table.numel() * kind.itemsize / 1e6:.0f} MB of the {resident / 1e6:.0f} MB that the "
            "ceiling leaves for weights"
        )
    plan = {"": "disk"}
    if resident:
        plan = infer_auto_device_map(
            model, max_memory={"cpu": resident}, dtype=kind,
            no_split_module_classes=list(model._no_split_modules or ()),
        )  # fmt: skip
        plan = {k: "disk" if str(v) == "disk" else "cpu" for k, v in plan.items()}
    index: dict[str, Any] = {}
    streamed = 0
    for name, parameter in model.named_parameters(remove_duplicate=False):
        stored = names.get(name) or next(
            s for n, p in model.named_parameters() if p is parameter and (s := names[n])
        )  # the other name of a tied one
        if _place(plan, name) == "disk":
            key = next(k for k, s in checkpoint.tensors.items() if s is stored)
            index[name] = {
                "safetensors_file": str(stored.file), "weight_name": key,
                "dtype": str(kind).removeprefix("torch."),
            }  # fmt: skip
            streamed += stored.stop - stored.start
    for n, (name, whole) in enumerate(names.items()):
        loading.weights(n, len(names))
        if name not in index and whole is not None:
            value = read(whole)
            if not torch.isfinite(value.sum(dtype=torch.float32)) and not value.isfinite().all():
                raise ModelError(whole.file, f"tensor {name!r} holds values that are not finite")
            set_module_tensor_to_device(model, name, "cpu", value=value.to(kind))
    if any(n not in index for n in names):
        model.tie_weights()
    if index:
        dispatch_model(
            model, plan, main_device="cpu", offload_index=index, offload_buffers=False,
            force_hooks=True, offload_dir=str(checkpoint.path),
        )  # fmt: skip
    return model, streamed


def _place(plan: dict[str, str], name: str) -> str:
    """Where a parameter goes: the longest entry of the plan that it lies below."""
    while name not in plan and name:
        name = name.rpartition(".")[0]
    return plan[name]


def seconds_a_pass(checkpoint: Checkpoint, kind: torch.dtype, share: float = 1.0) -> float:
    """How long one pass will take, by reading and widening some of the files' tensors now.

    ``share``: of the weights that a pass reads. What was read lately may come from memory; a cold
    disk is slower.
    """
    tried, began = 0, time.perf_counter()
    for stored in sorted(checkpoint.tensors.values(), key=lambda t: -t.values)[1:]:
        read(stored).to(kind)
        tried += stored.stop - stored.start
        if time.perf_counter() - began > 0.5 or tried > 256 << 20:
            break
    taken = time.perf_counter() - began
    total = sum(t.stop - t.start for t in checkpoint.tensors.values())
    return taken * share * total / max(tried, 1)
