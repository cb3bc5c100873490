"""The part of SARIF 2.1.0 that the reports use, as a JSON schema of our own: strict in names.

Written from the standard (OASIS, "Static Analysis Results Interchange Format (SARIF) Version
2.1.0", sections 3.13 to 3.58). The file that OASIS publishes can be used beside it, see
``TOKENSCOPE_SARIF_SCHEMA`` in ``test_reports.py``.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
WHOLE = {"type": "integer", "minimum": 0}
FROM_1 = {"type": "integer", "minimum": 1}
BAG = {"type": "object"}


def form(required: str, **properties: Any) -> dict[str, Any]:
    """An object that has these properties and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties,
            "required": required.split()}  # fmt: skip


def some(of: Any, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": least}


MESSAGE = form("text", text=TEXT)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
ARTIFACT = form("uri", uri={"type": "string", "pattern": r"^[\w./~%-]+$"})
REGION = form(
    "startLine", startLine=FROM_1, startColumn=FROM_1, endLine=FROM_1, endColumn=FROM_1,
    byteOffset=WHOLE, byteLength=WHOLE, snippet=MESSAGE,
)  # fmt: skip
LOCATION = form(
    "physicalLocation", message=MESSAGE,
    physicalLocation=form("artifactLocation region", artifactLocation=ARTIFACT, region=REGION),
)  # fmt: skip
RULE = form(
    "id", id=TEXT, shortDescription=MESSAGE, defaultConfiguration=form("level", level=LEVEL),
    helpUri={"type": "string", "format": "uri"}, properties=BAG,
)  # fmt: skip
FLOW = form("threadFlows", threadFlows=some(form("locations", locations=some(
    form("location", location=LOCATION,
         importance={"enum": ["important", "essential", "unimportant"]}), 1)), 1))  # fmt: skip
FIX = form("artifactChanges", description=MESSAGE, artifactChanges=some(form(
    "artifactLocation replacements", artifactLocation=ARTIFACT, replacements=some(form(
        "deletedRegion", deletedRegion=REGION, insertedContent=form("text", text=TEXT),
    ), 1)), 1))  # fmt: skip
RESULT = form(
    "message ruleId", ruleId=TEXT, ruleIndex=WHOLE, level=LEVEL, message=MESSAGE,
    rank={"type": "number", "minimum": 0, "maximum": 100}, locations=some(LOCATION, 1),
    partialFingerprints={"type": "object", "additionalProperties": TEXT}, properties=BAG,
    codeFlows=some(FLOW), fixes=some(FIX),
)  # fmt: skip
NOTE = form("message", message=MESSAGE, level=LEVEL)
DRIVER = form("name", name=TEXT, version=TEXT, rules=some(RULE))
RUN = form(
    "tool results", tool=form("driver", driver=DRIVER), results=some(RESULT), properties=BAG,
    automationDetails=form("id", id=TEXT), columnKind={"enum": ["unicodeCodePoints"]},
    invocations=some(form("executionSuccessful", executionSuccessful={"type": "boolean"},
                          toolExecutionNotifications=some(NOTE))),
)  # fmt: skip
SARIF = form(
    "version runs", **{"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": some(RUN, 1)}
)
