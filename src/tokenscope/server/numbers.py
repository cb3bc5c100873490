"""The numbers of a branch as octets: little-endian arrays, no JSON."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray

from tokenscope.control import Control
from tokenscope.errors import InputError
from tokenscope.runs.attend import Pick, Source, attended_by, attention_rows
from tokenscope.server.house import TheHouse
from tokenscope.server.leaving import worked

router = APIRouter(prefix="/api/nodes/{node}")
OCTETS: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
MAX_INDEX = 2**31 - 1


def octets(*arrays: NDArray[np.float32] | NDArray[np.int32], **headers: str) -> Response:
    """The arrays one after another, little-endian."""
    body = b"".join(
        np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<"), copy=False).tobytes()
        for a in arrays
    )
    named = {f"x-{k.replace('_', '-')}": v for k, v in headers.items()}
    return Response(body, media_type="application/octet-stream", headers=named)


@router.get("/columns", response_class=Response, responses=OCTETS)
def columns(
    node: str, names: Annotated[str, Query(min_length=1, max_length=4000)], house: TheHouse
) -> Response:
    """float32, T values per name, in the order asked."""
    trace = house.store.trace(node)
    return octets(*(trace.column(name) for name in names.split(",")))


@router.get("/alternatives", response_class=Response, responses=OCTETS)
def alternatives(node: str, house: TheHouse) -> Response:
    """int32 (T, K) ids, -1 where none; then float32 (T, K) logprobs."""
    found = house.store.trace(node).alternatives
    return (
        Response(b"", media_type="application/octet-stream")
        if found is None
        else octets(found.ids, found.logprobs)
    )


@router.get("/attention/{t}", response_class=Response, responses=OCTETS)
async def attention(node: str, t: int, request: Request, house: TheHouse) -> Response:
    """float32 (L, H, t): what the step that chose token ``t`` looked at."""

    def work(control: Control) -> tuple[NDArray[np.float32], Source]:
        trace = house.store.trace(node)
        check_index("t", t, len(trace))
        with house.models.reader(trace) as model:
            return attention_rows(model, trace, t, control)

    rows, source = await worked(request, house, work)
    shape = ",".join(str(n) for n in rows.shape)
    return octets(rows, attention_source=source, attention_shape=shape)


@router.get("/attended/{t}", response_class=Response, responses=OCTETS)
async def attended(
    node: str,
    t: int,
    request: Request,
    house: TheHouse,
    layer: Annotated[str, Query(max_length=10)] = "mean",
    head: Annotated[str, Query(max_length=10)] = "mean",
) -> Response:
    """float32 (T,): value ``u`` is what token ``u`` gave to token ``t``."""

    def work(control: Control) -> tuple[NDArray[np.float32], Source]:
        trace = house.store.trace(node)
        check_index("t", t, len(trace))
        with house.models.reader(trace) as model:
            return attended_by(
            model, trace, t, number_or_word("layer", layer), number_or_word("head", head),
            control,
        )  # fmt: skip

    values, source = await worked(request, house, work)
    return octets(values, attention_source=source, attention_shape=str(len(values)))


def check_index(field: str, t: int, length: int) -> None:
    """Raises InputError when ``t`` is no token of the trace."""
    if not 0 <= t < length:
        raise InputError(field, f"must lie in 0..{length - 1}")


def number_or_word(field: str, text: str) -> Pick:
    """``"3"`` -> 3, ``"mean"`` and ``"max"`` as they are. Raises InputError."""
    if text == "mean":
        return "mean"
    if text == "max":
        return "max"
    if text.isascii() and text.isdigit():
        return int(text)
    raise InputError(field, "must be a number, 'mean' or 'max'")
