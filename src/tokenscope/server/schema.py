"""Print the OpenAPI document that the page's types are made from.

``python -m tokenscope.server.schema > web/openapi.json``
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from tokenscope.server import (
    audit_routes,
    compare_routes,
    decoding,
    drift_routes,
    edit_routes,
    evidence_routes,
    explain_routes,
    explore_routes,
    forking_routes,
    ledger_routes,
    library_routes,
    model_routes,
    numbers,
    recorder_routes,
    routes,
    steering_routes,
    storage_routes,
    structure_routes,
)
from tokenscope.server.audit_wire import AuditMessage
from tokenscope.server.explain_wire import ExplainMessage, PatchMessage
from tokenscope.server.explore_wire import ExploreMessage
from tokenscope.server.forking_wire import ForkingMessage
from tokenscope.server.ledger_wire import LedgerMessage
from tokenscope.server.wire import ErrorResponse, HelloEvent, StreamMessage


def add_routes(app: FastAPI) -> None:
    """Every route under ``/api``."""
    for part in (
        routes, model_routes, library_routes, recorder_routes, decoding, edit_routes, numbers,
        explain_routes, explore_routes, forking_routes, compare_routes, drift_routes,
        ledger_routes, steering_routes, structure_routes, evidence_routes, audit_routes,
        storage_routes,
    ):  # fmt: skip
        app.include_router(part.router)


def document() -> dict[str, Any]:
    """OpenAPI of all routes, the stream's events and the error among the components."""
    app = FastAPI(
        title="TokenScope", version="1",
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    add_routes(app)
    found: dict[str, Any] = app.openapi()
    schemas = found["components"]["schemas"]
    template = "#/components/schemas/{model}"
    shapes: dict[str, Any] = {
        "FeedEvent": HelloEvent | StreamMessage | ExplainMessage | PatchMessage | ExploreMessage
        | ForkingMessage | LedgerMessage | AuditMessage,
        "ErrorResponse": ErrorResponse,
    }  # fmt: skip
    for name, shape in shapes.items():
        schema = TypeAdapter(shape).json_schema(ref_template=template, mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    # every error has the one shape, also what the framework calls a validation error
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    error = {"application/json": {"schema": {"$ref": template.format(model="ErrorResponse")}}}
    for methods in found["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "Refused.", "content": error}
    return found


def text() -> str:
    """The document as it is committed."""
    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    print(text(), end="")
