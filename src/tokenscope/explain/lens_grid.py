"""The lens at every position and layer, in bounded memory: logit lens, or tuned lens beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenscope.backends.hf.internals import Internals
from tokenscope.control import QUIET, Control
from tokenscope.errors import InputError
from tokenscope.explain.cells import within
from tokenscope.explain.gradients import F32
from tokenscope.explain.memory import LIMIT

# float32 logits of one chunk of positions; about four such arrays exist at a time
CHUNK_BYTES = 16 * 2**20
Translate = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class LensGrid:
    """Row l is the stream before layer l, the last row the model's own output; (L+1, T).

    Column t is about token t given the tokens before it, so column 0 is undefined (-1, NaN).
    ``top`` int32: likeliest token; ``p_top`` its probability; ``logprob`` and ``rank`` (0 where
    undefined) of the actual token t; ``kl``: KL(model || lens) in nats.
    """

    top: NDArray[np.int32]
    p_top: F32
    logprob: F32
    rank: NDArray[np.int32]
    kl: F32


def unembed(internals: Internals, h: Tensor) -> Tensor:
    """W_U Norm(h), scaled and capped as the model does: (..., d) -> (..., V), at least float32."""
    anatomy = internals.anatomy
    logits: Tensor = anatomy.head(anatomy.norm(h))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * anatomy.logit_scale
    if anatomy.softcap:
        logits = torch.tanh(logits / anatomy.softcap) * anatomy.softcap
    return logits


def streams(internals: Internals, ids: Sequence[int]) -> Tensor:
    """(L+1, T, d): the residual stream before every layer and after the last, detached."""
    kept: list[Tensor] = []

    def see(_module: Any, args: Any, kwargs: Any) -> None:
        kept.append((args[0] if args else kwargs["hidden_states"])[0].detach().clone())

    @contextmanager
    def hooks() -> Iterator[None]:
        with ExitStack() as hung:
            for part in internals.anatomy.layers:
                handle = part.block.register_forward_pre_hook(see, with_kwargs=True)
                hung.callback(handle.remove)
            last = internals.anatomy.norm.register_forward_pre_hook(see, with_kwargs=True)
            hung.callback(last.remove)
            yield

    with torch.no_grad():
        internals.logits(internals.embed(ids), hooks=hooks())
    # a final norm that saw only the last position would be one row short
    if len({h.shape for h in kept}) != 1 or len(kept) != len(internals.anatomy.layers) + 1:
        raise InputError("model", "its residual stream cannot be read at every position")
    return torch.stack(kept)


def next_logprobs(internals: Internals, ids: Sequence[int]) -> F32:
    """float32 (T,): ln p of token t given the tokens before it; NaN at 0."""
    last = streams(internals, ids)[-1]
    out = np.full(len(ids), np.nan, dtype=np.float32)
    for start, end in chunks(internals, len(ids) - 1):
        with torch.no_grad():
            logp = torch.log_softmax(unembed(internals, last[start:end]), dim=-1)
        actual = internals.ids(ids)[0, start + 1 : end + 1]
        out[start + 1 : end + 1] = logp.gather(1, actual[:, None])[:, 0].cpu().numpy()
    return out


def chunks(internals: Internals, count: int) -> Iterator[tuple[int, int]]:
    """Ranges over ``count`` positions whose logits fit into CHUNK_BYTES."""
    size = max(1, CHUNK_BYTES // (4 * int(internals.embedding_weight.shape[0])))
    for start in range(0, count, size):
        yield start, min(start + size, count)


def lens_grid(
    internals: Internals, ids: Sequence[int], translate: Translate | None = None,
    control: Control = QUIET, limit: int = LIMIT,
) -> LensGrid:  # fmt: skip
    """Every layer at every position: one forward, and L + 1 unembeddings of every position.

    ``translate(l, h)``: a tuned lens (nothing is asked for the last row). Raises InputError for a
    text of one token, CapacityError.
    """
    n, layers = len(ids), len(internals.anatomy.layers)
    if n < 2:
        raise InputError("text", "needs at least two tokens")
    bytes_ = (layers + 1) * n * internals.hidden * internals.embedding_weight.element_size()
    within(2 * bytes_ + 4 * CHUNK_BYTES, n, limit)
    h = streams(internals, ids)
    shape = (layers + 1, n)
    top, rank = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    p_top, logprob, kl = (np.full(shape, np.nan, dtype=np.float32) for _ in range(3))
    for start, end in chunks(internals, n - 1):
        control.step(start, n - 1, "lens")
        actual = internals.ids(ids)[0, start + 1 : end + 1, None]
        at = slice(start + 1, end + 1)
        with torch.no_grad():
            final = torch.log_softmax(unembed(internals, h[layers, start:end]), dim=-1)
            for i in range(layers + 1):
                x = h[i, start:end]
                if i == layers:
                    logp = final
                else:
                    x = translate(i, x) if translate is not None else x
                    logp = torch.log_softmax(unembed(internals, x), dim=-1)
                best, where = logp.max(dim=-1)
                own = logp.gather(1, actual)
                top[i, at], p_top[i, at] = where.cpu().numpy(), best.exp().cpu().numpy()
                logprob[i, at] = own[:, 0].cpu().numpy()
                rank[i, at] = (1 + (logp > own).sum(1)).cpu().numpy()
                kl[i, at] = (final.exp() * (final - logp)).sum(1).clamp(min=0).cpu().numpy()
    control.step(n - 1, n - 1, "lens")
    return LensGrid(top, p_top, logprob, rank, kl)
