"""Reading a folder straight into int8: every matrix is rounded when it comes, then let go.

transformers' loader does the reading, with its renamings and checks, and calls a quantizer of ours
for each weight; afterwards the token table and the output matrix follow.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from tokenscope.backends.hf.int8 import Int8Embedding, Int8Linear, rounded
from tokenscope.errors import ModelError

METHOD = "tokenscope_int8"
ROUTERS = ("gate", "router", "wg")  # which experts are chosen is not left to rounding
SMALL = 4096  # values of a matrix that is not worth it
ENOUGH = 0.5  # share of the weights that must become int8 for this to be worth calling it so


@cache
def _config() -> Any:
    """The object by which transformers calls our quantizer."""
    from transformers.core_model_loading import ConversionOps
    from transformers.quantizers.auto import register_quantizer
    from transformers.quantizers.base import HfQuantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

    class Config(QuantizationConfigMixin):
        quant_method: Any = METHOD

        def to_dict(self) -> dict[str, Any]:
            return {"quant_method": METHOD}

    class Rounding(ConversionOps):
        def convert(self, input_dict: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
            (tensor,) = next(iter(input_dict.values()))
            name = kwargs["full_layer_name"]
            module = kwargs["model"].get_submodule(name.rpartition(".")[0])
            try:
                module.put(*rounded(tensor, f"tensor {name!r}"))
            except ModelError as error:  # the loader would hide it behind its own; see `finish`
                kwargs["model"].bad_tensor = error
                module.put(*rounded(torch.zeros(tensor.shape)))
            module._is_hf_initialized = True
            kwargs["missing_keys"].discard(name)
            return {}

    @register_quantizer(METHOD)
    class Quantizer(HfQuantizer):
        requires_calibration = False

        def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
            owner, kind = param_name.rsplit(".", 1)
            return kind == "weight" and isinstance(model.get_submodule(owner), Int8Linear)

        def _process_model_before_weight_loading(self, model: Any, **_: Any) -> Any:
            prepare(model)
            return model

        def get_quantize_ops(self) -> Any:
            return Rounding()

        def is_serializable(self) -> bool:
            return False

        @property
        def is_trainable(self) -> bool:
            return False

    return Config(quant_method=METHOD)


def options() -> dict[str, Any]:
    """What ``from_pretrained`` is given to load as int8."""
    return {"quantization_config": _config()}


def prepare(model: nn.Module) -> None:
    """Put empty int8 layers where matrices will come; the output matrix waits for the table."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if type(child) is nn.Linear and child is not head and worth(name, child):
                setattr(owner, name, Int8Linear(child))


def worth(name: str, layer: nn.Linear) -> bool:
    """Whether a linear layer becomes int8."""
    return layer.weight.numel() >= SMALL and not name.endswith(ROUTERS)


def finish(model: Any, where: object) -> str:
    """Token table and output matrix as codes too; how much of the model is int8, in a sentence.

    Raises ModelError where most of the weights cannot be (merged experts, other layer types).
    """
    if isinstance(bad := getattr(model, "bad_tensor", None), ModelError):
        raise bad
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    factor = getattr(table, "embed_scale", None)
    known = type(table) is nn.Embedding or isinstance(factor, torch.Tensor)
    tied = head is not None and head.weight is table.weight
    if known:
        codes, scales = rounded(table.weight, "the token table")
        factor = factor if isinstance(factor, torch.Tensor) else None
        model.set_input_embeddings(Int8Embedding(codes, scales, factor))
    if type(head) is nn.Linear and (known or not tied):
        made = Int8Linear(head)
        made.put(*((codes, scales) if tied else rounded(head.weight, "the output matrix")))
        model.set_output_embeddings(made)
    coded = {b.data_ptr(): b.numel() for n, b in model.named_buffers() if n.endswith("codes")}
    done = sum(coded.values())
    rest = sum(p.numel() for p in model.parameters())
    share = done / max(done + rest, 1)
    if share < ENOUGH:
        raise ModelError(
            where, f"as int8 only {100 * share:.0f} % of this family's weights would shrink (its "
            "layers are of a kind of their own); load it as bfloat16",
        )  # fmt: skip
    return (
        f"int8: {100 * share:.1f} % of the weights as 8-bit codes, one scale a row, checked below"
    )
