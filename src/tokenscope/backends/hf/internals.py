"""The one place with hooks into a model: capture, patch, run from embeddings.

Everything here works on one sequence ``ids`` of T tokens and asks about the position of the last
one: the logits there are the distribution of the token that comes next. Not thread safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokenscope.backends.hf.anatomy import Anatomy, LayerParts, read_anatomy
from tokenscope.backends.hf.attention_kernel import Edge, Edges
from tokenscope.backends.hf.attention_probe import Probe, Watcher, probing, probing_eager
from tokenscope.backends.hf.cache import plain_layers
from tokenscope.errors import AbilityError, InputError

How = Literal["zero", "mean"]


@dataclass(frozen=True, slots=True)
class HeadPatch:
    """Replace one head's output (before the output projection) at every position.

    ``zero``: by 0; ``mean``: by its mean over this text's own positions
    (over a reference set, as Wang 2022 does: ``explain.references``).
    """

    layer: int
    head: int
    how: How = "zero"


@dataclass(frozen=True, slots=True)
class MlpPatch:
    """Replace one layer's MLP output at every position; ``how`` as in :class:`HeadPatch`."""

    layer: int
    how: How = "zero"


Patch = HeadPatch | MlpPatch | Edge


@dataclass(slots=True)
class Captured:
    """What was seen at one position, float32 and detached; all vectors are (d,).

    ``residual``: L+1 vectors, the input of layer 0 and the output of every layer. ``attention``
    and ``mlp``: what each layer added to the residual stream (0 where it has no such part).
    ``heads``: (H, head_dim) inputs of the output projection, None without attention.
    ``raw_attention``, ``raw_mlp``: before a norm that stands behind the part (else the same).
    ``logits`` (V,) before the final softcap.
    """

    residual: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)
    heads: list[Tensor | None] = field(default_factory=list)
    raw_attention: list[Tensor] = field(default_factory=list)
    raw_mlp: list[Tensor] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.zeros(0))


class Internals:
    """A transformers ``*ForCausalLM`` in eval mode, opened. Raises AbilityError (see anatomy)."""

    def __init__(
        self, model: Any, turn: AbstractContextManager[Any] | None = None, eager: bool = False
    ) -> None:
        """``turn`` is entered around every run of the model: others may use it in between.

        ``eager``: the model decodes with its family's own attention and must keep it.
        """
        self.model = model
        self.eager = eager
        self.turn: AbstractContextManager[Any] = turn if turn is not None else nullcontext()
        self.anatomy: Anatomy = read_anatomy(model)
        self._mean: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the embedding lives."""
        device: torch.device = self.embedding_weight.device
        return device

    @property
    def embedding_weight(self) -> Tensor:
        """(V, d), not scaled."""
        weight: Tensor = self.anatomy.embedding.weight  # type: ignore[assignment]
        return weight

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.embedding_weight.shape[1])

    @property
    def all_attention(self) -> bool:
        """Whether every layer has attention, so that a plain key/value cache holds all state."""
        return len(self.anatomy.attention_layers) == len(self.anatomy.layers)

    def ids(self, ids: Sequence[int]) -> Tensor:
        """(1, T) int64. Raises InputError for an empty sequence or an unknown id."""
        tensor = torch.as_tensor([int(i) for i in ids], dtype=torch.long, device=self.device)
        if tensor.numel() == 0:
            raise InputError("at", "there is no token before it")
        if int(tensor.min()) < 0 or int(tensor.max()) >= self.embedding_weight.shape[0]:
            raise InputError("ids", "an id lies outside the vocabulary")
        return tensor[None]

    def embed(self, ids: Sequence[int]) -> Tensor:
        """(1, T, d): token embeddings as the first layer's input path takes them, detached."""
        with torch.no_grad():
            out: Tensor = self.anatomy.embedding(self.ids(ids))
        return out.detach()

    def mean_embedding(self) -> Tensor:
        """(d,): the mean over the vocabulary, the neutral token of baselines and occlusion."""
        if self._mean is None:
            total = torch.zeros(self.hidden, dtype=torch.float64)
            size = int(self.embedding_weight.shape[0])
            with torch.no_grad():
                for start in range(0, size, 8192):
                    part = torch.arange(start, min(start + 8192, size), device=self.device)
                    total += self.anatomy.embedding(part).double().sum(0).cpu()
            self._mean = (total / size).to(self.embedding_weight.dtype).to(self.device)
        return self._mean

    # --- running ------------------------------------------------------------------------------
    def logits(
        self, embeds: Tensor, patches: Sequence[tuple[int | None, Patch]] = (),
        probe: Probe | None = None, hooks: AbstractContextManager[Any] | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, V) float32 at the last position, from embeddings (B, T, d); gradients flow.

        ``patches``: pairs of batch row (None: all) and patch. ``hooks`` hang for this run only
        (see ``sites``). ``visible`` bool (B, T): tokens that attention may read. These are the
        model's real logits, after a final softcap.
        """
        with self.turn, hooks or nullcontext():
            return self._logits(embeds, patches, probe, visible)

    def _logits(
        self, embeds: Tensor, patches: Sequence[tuple[int | None, Patch]] = (),
        probe: Probe | None = None, visible: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        edges = [(r, p) for r, p in patches if isinstance(p, Edge)]
        probe = probe or Probe()
        probe.edges = [*probe.edges, *edges]
        batch, length, _ = embeds.shape
        if length < 2 and any(not isinstance(p, Edge) and p.how == "mean" for _, p in patches):
            raise AbilityError("the mean over a text of one token is that token's own output")
        positions = torch.arange(length, device=embeds.device)[None].expand(batch, -1)
        seen = {} if visible is None else {"attention_mask": visible.long()}
        with self._probing(probe), self._patched(patches):
            out = self.model(
                inputs_embeds=embeds, position_ids=positions, use_cache=False, logits_to_keep=1,
                **seen,
            )  # fmt: skip
        logits: Tensor = out.logits[:, -1].float()
        return logits

    def _probing(self, probe: Probe) -> AbstractContextManager[None]:
        """The attention of the model that decoded, watched and changed; checks the edges."""
        for _, edge in probe.edges:
            self._need_edge(edge)
        if not self.eager:
            return probing(self.model, probe)
        return probing_eager([p.weighing for p in self.anatomy.layers], probe)

    def _need_edge(self, edge: Edge) -> None:
        """Raises AbilityError where there is no attention to change, InputError for the head."""
        layers = self.anatomy.attention_layers
        if not layers:
            raise AbilityError("this model has no attention layers: there is no edge to cut")
        if edge.layer is not None and self._layer(edge.layer).attention is None:
            raise AbilityError(f"layer {edge.layer} has no attention: there is no edge to cut")
        if edge.head is not None and not 0 <= edge.head < self.anatomy.heads:
            raise InputError("head", f"must lie in 0..{self.anatomy.heads - 1}")

    def watch(
        self, ids: Sequence[int], watcher: Watcher, rows: tuple[int, int] | None = None,
        layers: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        """One forward; ``watcher`` sees blocks of attention rows (see ``attention_probe``)."""
        if not self.anatomy.attention_layers:
            raise AbilityError("this model has no attention layers")
        probe = Probe(watcher, rows, None if layers is None else frozenset(layers))
        with torch.no_grad():
            self.logits(self.embed(ids), probe=probe)

    def prefix(self, embeds: Tensor) -> Any:
        """A plain cache that has seen ``embeds`` (1, n, d), or None where a cache cannot serve.

        It keeps every key, also in layers with a sliding window (the mask hides them).
        """
        from transformers import DynamicCache

        if (
            not self.all_attention
            or embeds.shape[1] == 0
            or plain_layers(self.model.config) is None
        ):
            return None
        cache = DynamicCache()
        positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
        with self.turn, torch.no_grad(), self._probing(Probe()):
            self.model(
                inputs_embeds=embeds, position_ids=positions, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            )  # fmt: skip
        return cache

    def resume(
        self, cache: Any, length: int, embeds: Tensor,
        edges: Edges = (),
        hooks: AbstractContextManager[Any] | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, V): logits after ``length`` positions of ``cache`` and then ``embeds`` (B, n, d).

        The cache is copied, so it can serve again. ``hooks`` as in :meth:`logits`.
        """
        from transformers import DynamicCache

        batch, count, _ = embeds.shape
        copy = DynamicCache()
        for index, layer in enumerate(cache.layers):
            if layer.keys is not None and length:
                keys, values = layer.keys[:, :, :length], layer.values[:, :, :length]
                shape = (batch, -1, -1, -1)
                copy.update(keys.expand(shape), values.expand(shape), index)
        positions = torch.arange(length, length + count, device=embeds.device)[None]
        probe = self._probing(Probe(edges=edges))
        with self.turn, hooks or nullcontext(), torch.no_grad(), probe:
            out = self.model(
                inputs_embeds=embeds, position_ids=positions.expand(batch, -1),
                past_key_values=copy, use_cache=True, logits_to_keep=1,
            )  # fmt: skip
        logits: Tensor = out.logits[:, -1].float()
        return logits

    # --- capture ------------------------------------------------------------------------------
    def capture(self, ids: Sequence[int]) -> Captured:
        """One forward that keeps the parts' outputs at the last position."""
        seen = Captured()
        layers = self.anatomy.layers
        zero = torch.zeros(self.hidden, device=self.device)
        store: dict[tuple[str, int], Tensor] = {}

        def keep(kind: str, index: int) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                store[kind, index] = _tensor(output)[0, -1].detach().float()

            return hook

        def keep_input(kind: str, index: int) -> Callable[..., None]:
            def hook(_module: nn.Module, inputs: Any, kwargs: Any) -> None:
                given = inputs[0] if inputs else kwargs["hidden_states"]
                store[kind, index] = given[0, -1].detach().float()

            return hook

        embeds = self.embed(ids)
        # hooks hear every run of the model, so nobody else may have a turn while they hang
        with self.turn, ExitStack() as hooks, torch.no_grad():
            pre = layers[0].block.register_forward_pre_hook(keep_input("in", 0), with_kwargs=True)
            hooks.callback(pre.remove)
            for part in layers:
                watched = {
                    "block": part.block, "attention": part.attention, "mlp": part.mlp,
                    "attention+": part.after_attention if part.attention else None,
                    "mlp+": part.after_mlp,
                }  # fmt: skip
                for kind, module in watched.items():
                    if module is not None:
                        handle = module.register_forward_hook(keep(kind, part.index))
                        hooks.callback(handle.remove)
                if part.out is not None:
                    handle = part.out.register_forward_pre_hook(
                        keep_input("heads", part.index), with_kwargs=True
                    )
                    hooks.callback(handle.remove)
            last = self.anatomy.head.register_forward_hook(keep("logits", 0))
            hooks.callback(last.remove)
            self._logits(embeds)
        scale = self.anatomy.residual_scale
        if store["in", 0].ndim != 1:
            raise AbilityError("this family keeps several residual streams: no lens, no parts")
        seen.residual.append(store["in", 0])
        for part in layers:
            i = part.index
            raw_a, raw_m = store.get(("attention", i), zero), store.get(("mlp", i), zero)
            seen.raw_attention.append(raw_a)
            seen.raw_mlp.append(raw_m)
            seen.attention.append(store.get(("attention+", i), raw_a) * scale)
            seen.mlp.append(store.get(("mlp+", i), raw_m) * scale)
            heads = store.get(("heads", i))
            seen.heads.append(
                heads.reshape(part.heads, part.head_dim) if heads is not None else None
            )
            seen.residual.append(store["block", i])
        seen.logits = store["logits", 0] * self.anatomy.logit_scale
        return seen

    # --- patches ------------------------------------------------------------------------------
    @contextmanager
    def _patched(self, patches: Sequence[tuple[int | None, Patch]]) -> Iterator[None]:
        with ExitStack() as hooks:
            for row, patch in patches:
                if isinstance(patch, HeadPatch):
                    part = self._layer(patch.layer)
                    if part.out is None:
                        raise AbilityError(f"layer {patch.layer} has no attention heads")
                    if not 0 <= patch.head < part.heads:
                        raise InputError("head", f"layer {patch.layer} has {part.heads} heads")
                    size = part.head_dim
                    span = slice(patch.head * size, (patch.head + 1) * size)
                    handle = part.out.register_forward_pre_hook(_head_hook(row, span, patch.how))
                elif isinstance(patch, MlpPatch):
                    part = self._layer(patch.layer)
                    if part.mlp is None:
                        raise AbilityError(f"layer {patch.layer} has no MLP")
                    handle = part.mlp.register_forward_hook(_mlp_hook(row, patch.how))
                else:
                    continue  # edges are cut inside the attention function
                hooks.callback(handle.remove)
            yield

    def _layer(self, index: int) -> LayerParts:
        if not 0 <= index < len(self.anatomy.layers):
            raise InputError("layer", f"must lie in 0..{len(self.anatomy.layers) - 1}")
        return self.anatomy.layers[index]


def _head_hook(row: int | None, span: slice, how: How) -> Callable[..., Any]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0].clone()
        rows = slice(None) if row is None else slice(row, row + 1)
        x[rows, :, span] = _instead(x[rows, :, span], how)
        return (x, *inputs[1:])

    return hook


def _mlp_hook(row: int | None, how: How) -> Callable[..., Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        x = _tensor(output).clone()
        rows = slice(None) if row is None else slice(row, row + 1)
        x[rows] = _instead(x[rows], how)
        return (x, *output[1:]) if isinstance(output, tuple) else x

    return hook


def _instead(x: Tensor, how: How) -> Tensor:
    return x.mean(dim=1, keepdim=True).expand_as(x) if how == "mean" else torch.zeros_like(x)


def _tensor(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found
