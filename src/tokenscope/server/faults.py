"""Every error as an ``ErrorResponse``: a code, a sentence, the field; never the input."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tokenscope.errors import BusyError, CapacityError, InputError, StoreLocked, TokenScopeError
from tokenscope.server.wire import ErrorResponse

log = logging.getLogger(__name__)
HTTP_CODES = {404: "not_found", 405: "bad_method", 413: "too_large", 415: "bad_type"}


def refusal(
    status: int, code: str, message: str, field: str | None = None, fits: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """An error as a response."""
    body = ErrorResponse(code=code, message=message, field=field, fits=fits)
    return Response(
        body.model_dump_json(), status, media_type="application/json", headers=dict(headers or {})
    )


def of_error(error: TokenScopeError) -> Response:
    """One of the house's own errors."""
    headers = {}
    if isinstance(error, BusyError | StoreLocked):  # time may heal it
        headers["retry-after"] = str(getattr(error, "retry_after", 5))
    return refusal(
        error.status, error.code, str(error),
        error.field if isinstance(error, InputError) else None,
        error.fits if isinstance(error, CapacityError) else None, headers,
    )  # fmt: skip


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Response:
    """The first thing wrong with a request. Only known fields are named: a name is input too."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "extra_forbidden":
        where[-1:] = []
        reason = "holds a field that is not known here"
    else:
        reason = str(first["msg"])
    field = ".".join(where)[:200] or "body"
    return refusal(422, "bad_input", f"{field}: {reason}", field)


def install(app: FastAPI) -> None:
    """Let every error of the application become an ErrorResponse."""

    @app.exception_handler(TokenScopeError)
    def _own(_: Request, error: Exception) -> Response:
        assert isinstance(error, TokenScopeError)
        if error.status >= 500 and not isinstance(error, BusyError):
            log.error("%s", error)
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return of_validation(error.errors())

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = HTTP_CODES.get(error.status_code, "refused")
        words = {404: "nothing is there", 405: "this address takes other methods"}
        message = words.get(error.status_code, "the request was refused")
        return refusal(error.status_code, code, message, headers=error.headers)

    @app.exception_handler(Exception)
    def _unforeseen(_: Request, error: Exception) -> Response:
        return refusal(500, "internal", "the server failed; its log says why")
