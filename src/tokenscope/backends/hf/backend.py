"""Any decoder in Hugging Face format, through transformers, with attention rows and forks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from tokenscope.backends.hf import changes, chat, deferred, recorder
from tokenscope.backends.hf.anatomy import Anatomy, read_anatomy
from tokenscope.backends.hf.cache import (
    GrowingLayer,
    cache_argument,
    growing_cache,
    plain_layers,
)
from tokenscope.backends.hf.compact import CompactStep, LeanFeed
from tokenscope.backends.hf.infill import InfillMarks, find_stops
from tokenscope.backends.hf.vocabulary import Vocabulary
from tokenscope.backends.protocol import Abilities, Extension, Feed, ForkKind, Full, ModelInfo
from tokenscope.errors import AbilityError, CapacityError, InputError
from tokenscope.trace.tokens import Tokens

INNER_MEMORY = ("conv1d_state", "recurrent_states")


@dataclass(slots=True)
class CacheState:
    """Ids seen so far and the model's cache of them.

    ``inner``: memory that a family keeps in its modules instead of the cache (RecurrentGemma);
    it is put back before every feed, or two states would read each other's.
    """

    ids: list[int]
    cache: Any
    plain: bool
    inner: tuple[torch.Tensor | None, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held (blocks shared with other states count here too)."""
        return sum(self.blocks.values())

    @property
    def blocks(self) -> Mapping[int, int]:
        """Bytes of each block; a block that several states share has the same key in each."""
        out: dict[int, int] = {}
        for layer in self.cache.layers:
            if isinstance(layer, GrowingLayer):
                out |= {id(block): block.nbytes for block, _ in layer.parts}
                continue
            for name in ("keys", "values", "conv_states", "recurrent_states"):
                tensor = getattr(layer, name, None)
                if isinstance(tensor, torch.Tensor):
                    out[id(tensor)] = tensor.nbytes
        return out


@dataclass
class TransformersBackend:
    """One loaded model with its tokenizer. ``model`` is the transformers module, in eval mode."""

    model: Any
    vocabulary: Vocabulary
    info: ModelInfo
    abilities: Abilities
    stop_ids: frozenset[int]
    bos: tuple[int, ...] = ()
    marks: InfillMarks | None = None
    template: str | None = None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    compact: CompactStep | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self._plain = plain_layers(self.model.config)
        self._cache_argument = cache_argument(self.model)
        self._inner = [
            (module, name) for module in self.model.modules() for name in INNER_MEMORY
            if hasattr(module, name)
        ]  # fmt: skip
        kind: ForkKind = "crop" if self._plain is not None else "copy"
        self.abilities = replace(self.abilities, fork=kind, pools=self.compact is not None)
        self._embeddings = int(self.model.get_input_embeddings().weight.shape[0])

    # --- text ------------------------------------------------------------------------------
    def encode(self, text: str, bos: bool = True) -> Tokens:
        """Text to tokens; with ``bos`` the model's start token goes first, if it has one."""
        context = self.info.context or 1 << 24
        limit = context * max(self.vocabulary.longest, 1)
        if len(text) > limit:  # a cheap refusal before a megabyte is tokenised
            raise CapacityError(
                f"text of {len(text)} characters cannot fit the context of "
                f"{context} tokens", fits=context,
            )  # fmt: skip
        return self.vocabulary.encode(text, self.bos if bos else ())

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> Tokens:
        """Messages through the chat template, with special tokens as such."""
        if self.template is None:
            raise AbilityError("this model's tokenizer has no chat template")
        if not messages:
            raise InputError("messages", "at least one message is needed")
        text = chat.render(
            self.template, messages, self.template_variables, self.vocabulary.special_in
        )
        return self.vocabulary.encode_rendered(text)

    def encode_infill(self, prefix: str, suffix: str) -> Tokens:
        """``prefix`` and ``suffix`` in the order prefix mark, suffix mark, middle mark."""
        marks = self.marks
        if marks is None:
            raise AbilityError("this model's tokenizer has no infill tokens")
        one = lambda i: Tokens.of([i], [b""], {0: self.vocabulary.label(i) or ""})
        head = self.encode(prefix, bos=self.bos != () and self._bos_before_infill())
        tail = self.encode(suffix, bos=False)
        cut = len(head.labels)  # the start token, if any, stays in front of the marks
        out = head.slice(0, cut).joined(one(marks.prefix)).joined(head.slice(cut, len(head)))
        return out.joined(one(marks.suffix)).joined(tail).joined(one(marks.middle))

    def _bos_before_infill(self) -> bool:
        # A document separator that doubles as start token does not stand before infill marks.
        return not any(i in self.stop_ids for i in self.bos)

    def infill_stops(self) -> frozenset[int]:
        """Ids at which an infill ends, besides the usual ones."""
        return find_stops(self.vocabulary.id_of)

    def piece(self, token_id: int) -> bytes:
        """The bytes of one id. Ids between the tokenizer's and the model's size have none."""
        if self.vocabulary.size <= token_id < self._embeddings:
            return b""
        return self.vocabulary.piece(token_id)

    def label(self, token_id: int) -> str | None:
        """The literal of a special id, None for an ordinary one."""
        if self.vocabulary.size <= token_id < self._embeddings:
            return f"<unused {token_id}>"
        return self.vocabulary.label(token_id)

    # --- states ----------------------------------------------------------------------------
    def start(self) -> CacheState:
        """An empty state."""
        if self._plain is not None:
            cache = growing_cache([GrowingLayer() for _ in range(self._plain)])
            return CacheState([], cache, True)
        from transformers.cache_utils import DynamicCache

        return CacheState([], DynamicCache(config=self.model.config), False)

    def extend(self, feed: Feed) -> Extension:
        """``extend_many`` of one."""
        return self.extend_many([feed])[0]

    def extend_many(self, feeds: Sequence[Feed]) -> list[Extension]:
        """Feed ids. ``scores`` float32 (n, V); ``attention`` (H, rows, keys) per layer."""
        seen: set[int] = set()
        for feed in feeds:
            self._check(feed, seen)
        out: dict[int, Extension] = {}
        lean = [n for n, f in enumerate(feeds) if self._lean(f)]
        if lean:
            out.update(zip(lean, self._extend_lean([feeds[n] for n in lean]), strict=True))
        for n, feed in enumerate(feeds):
            if n not in out:
                out[n] = self._extend(feed)
        return [out[n] for n in range(len(feeds))]

    def _lean(self, feed: Feed) -> bool:
        return (
            self.compact is not None and feed.state.plain and not feed.changes
            and self.compact.takes(len(feed.state.ids), len(feed.ids))
        )  # fmt: skip

    def _extend_lean(self, feeds: Sequence[Feed]) -> list[Extension]:
        """The tokens of all feeds through the weights together."""
        assert self.compact is not None
        asked = []
        for f in feeds:
            n = len(f.ids)
            wanted = n if f.scores is None else min(f.scores, n)
            asked.append(LeanFeed(f.ids, f.state.cache.layers, min(f.rows, n), wanted))
        with torch.inference_mode():
            found = self.compact(asked)
        for f in feeds:
            f.state.ids.extend(int(i) for i in f.ids)
        return [
            Extension(None if s is None else Full(s, isinstance(s, deferred.DeferredLogits)), rows)
            for s, rows in found
        ]

    def _check(self, feed: Feed, seen: set[int]) -> None:
        past, n = len(feed.state.ids), len(feed.ids)
        if id(feed.state) in seen:
            raise InputError("state", "is fed twice at once")
        seen.add(id(feed.state))
        if feed.changes:
            self._check_changes(feed)
        if n == 0:
            raise InputError("ids", "nothing to feed")
        context = self.info.context
        if context is not None and past + n > context:
            raise CapacityError(
                f"{past + n} tokens exceed the context of {context}", fits=context - past
            )
        if min(feed.ids) < 0 or max(feed.ids) >= self._embeddings:
            bad = next(i for i in feed.ids if not 0 <= i < self._embeddings)
            raise InputError("token id", f"{bad} is not in 0..{self._embeddings - 1}")

    def _check_changes(self, feed: Feed) -> None:
        changes.check(feed.changes, self.anatomy)
        weighed = any(isinstance(c, changes.Weighed) for c in feed.changes)
        if weighed and self.info.kernel != recorder.KERNEL:
            raise AbilityError("this model decodes with its own attention, which cannot be changed")
        if weighed and not feed.state.plain:
            raise AbilityError("this model's memory does not keep all keys: attention stays as is")

    def _extend(self, feed: Feed) -> Extension:
        state, ids = feed.state, feed.ids
        past, n = len(state.ids), len(ids)
        last = min(feed.rows, n)
        wanted = n if feed.scores is None else min(feed.scores, n)
        if n > 1 and past > 0 and not state.plain:
            # Recurrent families start a multi-token feed from a blank convolution window, which
            # is wrong in the middle of a sequence; one token at a time is right everywhere.
            parts = [
                self._extend(
                    Feed(state, [i], int(last >= n - at), int(wanted >= n - at), feed.changes)
                )
                for at, i in enumerate(ids)
            ]
            return _joined(parts)
        with torch.inference_mode():
            for i, (module, name) in enumerate(self._inner):
                setattr(module, name, state.inner[i] if state.inner else None)
            tokens = torch.tensor([list(ids)], device=self.device)
            positions = torch.arange(past, past + n, device=self.device)[None]
            asked: dict[str, Any] = {
                "input_ids": tokens, "position_ids": positions, "use_cache": True,
                self._cache_argument: state.cache,
            }  # fmt: skip
            recorded = self.info.kernel == recorder.KERNEL
            if last and not recorded:
                asked["output_attentions"] = True
            weighed = [c for c in feed.changes if isinstance(c, changes.Weighed)]
            with (
                changes.hanging(feed.changes, self.anatomy, past)
                if feed.changes
                else nullcontext(),
                recorder.recording(last if recorded else 0, weighed) as sink,
            ):
                if self._splits:
                    out = self.model.model(**asked)
                else:
                    keep = {"logits_to_keep": max(wanted, 1)} if self._keeps else {}
                    out = self.model(**asked, **keep)
            if recorded:
                attention = [sink.rows[i] for i in sorted(sink.rows)] if sink else []
            else:
                found = (getattr(out, "attentions", None) or ()) if last > 0 else ()
                attention = [a[0, :, -last:].float() for a in found if a is not None]
            state.inner = tuple(getattr(module, name) for module, name in self._inner)
            attention = [_placed(rows.to(self.device), past + n) for rows in attention]
            state.ids.extend(int(i) for i in ids)
            if not wanted:
                return Extension(None, attention)
            if self._splits:
                hidden = out.last_hidden_state[0, n - wanted :]
                return Extension(deferred.scores(hidden, self.model), attention)
            return Extension(Full(out.logits[0, -wanted:].to(self.device).float()), attention)

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the model's parts are. Raises AbilityError for a family that is not mapped."""
        return read_anatomy(self.model)

    @cached_property
    def _splits(self) -> bool:
        return deferred.splits(self.model)

    @cached_property
    def _keeps(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def back(self, state: CacheState, count: int) -> None:
        """The state without its last ``count`` ids, in place."""
        if not 0 <= count <= len(state.ids):
            raise InputError("count", f"must lie in 0..{len(state.ids)}")
        if not state.plain:
            raise AbilityError("this model's memory cannot go back; only a kept state can fork")
        for layer in state.cache.layers:
            layer.back(count)
        del state.ids[len(state.ids) - count :]

    def fork(self, state: CacheState, length: int) -> CacheState:
        """A state of its own over the first ``length`` ids; ``crop`` shares, ``copy`` copies."""
        if not 0 <= length <= len(state.ids):
            raise InputError("length", f"must lie in 0..{len(state.ids)}")
        if length == 0:
            return self.start()
        if state.plain:
            layers = [layer.forked(length) for layer in state.cache.layers]
            return CacheState(state.ids[:length], growing_cache(layers), True)
        if length != len(state.ids):
            raise AbilityError("this model's memory cannot go back; only a kept state can fork")
        try:
            cache, inner = copy.deepcopy((state.cache, state.inner))
            return CacheState(list(state.ids), cache, False, inner)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise AbilityError(f"this model's memory cannot be copied ({error})") from error

    def settle(self, state: CacheState) -> None:
        """Copy what lies in the slab of the states under way; drop the slab after the last one."""
        if state.plain:
            for layer in state.cache.layers:
                layer.settle()
        if self.compact is not None:
            self.compact.rest()

    @property
    def streams(self) -> bool:
        """Whether some of its weights are read from the disk at every pass."""
        return any(p.device.type == "meta" for p in self.model.parameters())

    def close(self) -> None:
        """Drop the weights; states that others hold keep only their own memory."""
        self.model = self.compact = None


def _placed(rows: torch.Tensor, keys: int) -> torch.Tensor:
    """Rows (H, n, kept) over all ``keys``: a memory that keeps a window holds the last of them."""
    kept = rows.shape[-1]
    return torch.nn.functional.pad(rows, (keys - kept, 0)) if kept < keys else rows


def _joined(parts: list[Extension]) -> Extension:
    """One-token extensions as one; rows are padded with 0 to the longest."""
    rows = [p.attention for p in parts if p.attention]
    attention = []
    for layer in zip(*rows, strict=True):
        keys = layer[-1].shape[-1]
        padded = [torch.nn.functional.pad(r, (0, keys - r.shape[-1])) for r in layer]
        attention.append(torch.cat(padded, dim=1))
    logits = [p.scores.logits for p in parts if isinstance(p.scores, Full)]
    return Extension(Full(torch.cat(logits)) if logits else None, attention)
