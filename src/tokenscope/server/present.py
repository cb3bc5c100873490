"""Values of the house as types of the wire."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from tokenscope import __version__
from tokenscope.backends.protocol import Abilities, ModelInfo
from tokenscope.server import wire
from tokenscope.store import NodeRow, SessionRow
from tokenscope.trace import COLUMNS, Alternatives, Tokens, Trace

FEW = 16  # up to here plain Python is faster than numpy
DIGITS = 8  # float32 needs nine to round-trip; eight are within 1 unit in the last place


def model(info: ModelInfo, abilities: Abilities) -> wire.ModelResponse:
    """The model bar."""
    return wire.ModelResponse(
        name=info.name, architecture=info.architecture, backend=info.backend,
        parameters=info.parameters, layers=info.layers, heads=info.heads, kv_heads=info.kv_heads,
        hidden=info.hidden, vocab=info.vocab, context=info.context, dtype=info.dtype,
        device=info.device, kernel=info.kernel, model_digest=info.model_digest,
        tokenizer_digest=info.tokenizer_digest, attention_layers=list(info.attention_layers),
        expert_layers=list(info.expert_layers), start_token=info.start_token,
        errors={n: v for n, v in info.errors.items() if isfinite(v)}, notes=list(info.notes),
        abilities=wire.AbilityInfo(
            scores=abilities.scores, attention=abilities.attention, fork=abilities.fork,
            infill=abilities.infill, chat=abilities.chat, internals=abilities.internals,
        ),
        columns=columns(),
        version=__version__,
    )  # fmt: skip


def columns() -> list[wire.ColumnInfo]:
    """Every registered column."""
    return [
        wire.ColumnInfo(
            name=c.name, title=c.title, unit=c.unit, formula=c.formula, source=c.source,
            lo=c.lo, hi=c.hi, better=c.better, scale=c.scale,
        )
        for _, c in COLUMNS
    ]  # fmt: skip


def session(row: SessionRow) -> wire.SessionInfo:
    """One line of the sessions list."""
    return wire.SessionInfo(
        id=row.id, title=row.title, created=row.created, updated=row.updated,
        branches=row.branches, tokens=row.tokens,
    )  # fmt: skip


def whole(row: SessionRow, nodes: Iterable[NodeRow]) -> wire.SessionResponse:
    """A session with its branches."""
    return wire.SessionResponse(
        id=row.id, title=row.title, created=row.created, updated=row.updated,
        nodes=[node(n) for n in nodes],
    )  # fmt: skip


def node(row: NodeRow) -> wire.NodeInfo:
    """One branch."""
    return wire.NodeInfo(
        id=row.id, session=row.session, parent=row.parent, at=row.at, title=row.title,
        excerpt=row.excerpt, status=row.status, finish=row.finish, form=row.form,
        created=row.created, summary=wire.Summary.model_validate(row.summary),
        own_tokens=row.own_tokens, own_logprob=row.own_logprob, own_surprisal=row.own_surprisal,
        turn_logprob=row.turn_logprob, note=row.note, starred=row.starred,
        model=row.model, model_digest=row.model_digest,
    )  # fmt: skip


def trace(row: NodeRow, value: Trace) -> wire.TraceResponse:
    """A trace without its numbers."""
    tokens, alternatives, attention = value.tokens, value.alternatives, value.attention
    return wire.TraceResponse(
        node=node(row),
        n_prompt=value.n_prompt,
        language=value.language,
        ids=tokens.ids.tolist(),
        offsets=tokens.offsets.tolist(),
        data=base64.b64encode(tokens.data).decode(),
        specials=specials(tokens),
        columns=list(value.columns),
        qualities=[c.quality for c in value.columns.values()],
        k=alternatives.k if alternatives else 0,
        pieces=pieces(alternatives, np.unique(alternatives.ids)) if alternatives else [],
        attention=attention.form if attention else "none",
        attention_first=attention.first if attention else 0,
        attention_count=attention.count if attention else 0,
        origin=value.origin.to_json(),
    )


def specials(tokens: Tokens) -> list[wire.SpecialToken]:
    """The special tokens, by index in ``tokens``."""
    return [wire.SpecialToken(index=i, label=s) for i, s in sorted(tokens.labels.items())]


def pieces(table: Alternatives, ids: Iterable[int]) -> list[wire.Piece]:
    """The bytes of the ids given, from the table of a trace or step."""
    return [
        wire.Piece(
            id=int(i),
            bytes=base64.b64encode(table.pieces.get(int(i), b"")).decode(),
            label=table.labels.get(int(i)),
        )
        for i in ids
        if i >= 0
    ]


def numbers(values: NDArray[np.float32]) -> list[float | None]:
    """float32 (n,) as short JSON numbers of 8 significant digits; what is not finite is None."""
    if len(values) <= FEW:
        return [float(f"{v:.{DIGITS}g}") if isfinite(v) else None for v in values.tolist()]
    short: list[float | None] = shortened(values).tolist()
    finite = np.isfinite(values)
    if bool(finite.all()):
        return short
    return [v if ok else None for v, ok in zip(short, finite.tolist(), strict=True)]


def shortened(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rounded to 8 significant digits, so that JSON writes 0.1 and not 0.10000000149011612."""
    wide = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        places = DIGITS - 1 - np.floor(np.log10(np.abs(wide)))
        places = np.where(np.isfinite(places), places, 0.0)
        up = 10.0 ** np.clip(places, 0, 300)
        down = 10.0 ** np.clip(-places, 0, 300)
        out: NDArray[np.float64] = np.round(wide * up / down) / up * down
    return out


def rows(table: Alternatives) -> tuple[list[list[int]], list[list[float]]]:
    """Ids and logprobs of the alternatives, a list per token; empty where there are none."""
    ids, logprobs = [], []
    few = len(table.ids) <= 1
    short = table.logprobs if few else shortened(table.logprobs)
    for i, p, k in zip(table.ids, short, table.ids >= 0, strict=True):
        ids.append(i[k].tolist())
        row = p[k].tolist()
        logprobs.append([float(f"{v:.{DIGITS}g}") for v in row] if few else row)
    return ids, logprobs


def encoded(tokens: Tokens) -> Sequence[str]:
    """Base64 of the bytes of every token."""
    return [base64.b64encode(p).decode() for p in tokens.pieces()]
