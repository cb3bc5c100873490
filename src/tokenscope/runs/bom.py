"""The bill of materials of a model and of the software that ran it: CycloneDX 1.6, with an ML-BOM.

The model is a component of the kind ``machine-learning-model`` with the SHA-256 of every file that
is loaded, and a model card of what its headers say; the software is what is installed of
TokenScope's requirements. Made by the ``cyclonedx`` library; what that has no types for yet (the
model card) is added to its JSON and checked against the schema by the tests.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement

from tokenscope import __version__
from tokenscope.errors import ModelError

if TYPE_CHECKING:
    from tokenscope.library.entries import Entry

FILES = (".safetensors", ".gguf", ".json", ".jinja", ".txt", ".model")
BLOCK = 1 << 20


def bill(entry: Entry) -> dict[str, Any]:
    """The document, as JSON values. ``entry``: the model as the library describes it.

    Raises ModelError for a model that cannot be loaded or read.
    """
    if entry.reason is not None or not entry.path:
        raise ModelError(entry.name, entry.reason or "is not here")
    tool = Component(name="tokenscope", version=__version__, type=ComponentType.APPLICATION,
                     bom_ref="tokenscope")  # fmt: skip
    model = _model(entry)
    bom = Bom(components=[model, *_software()])
    bom.metadata.component = tool
    bom.register_dependency(tool, [model, *(c for c in bom.components if c is not model)])
    made: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    for component in made["components"]:
        if component["bom-ref"] == "model":
            component["modelCard"] = _card(entry)
    return made


def _model(entry: Entry) -> Component:
    """The model, its files below it."""
    path = Path(entry.path)
    files = [path] if path.is_file() else sorted(
        f for f in path.iterdir() if f.is_file() and f.suffix in FILES
    )  # fmt: skip
    parts = [
        Component(
            name=f.name, type=ComponentType.FILE, bom_ref=f"model/{f.name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256(f))],
        )
        for f in files
    ]  # fmt: skip
    told = {
        "parameters": entry.parameters, "bytes": entry.size, "context": entry.context,
        "number type": entry.number, "architecture": entry.architecture,
    }  # fmt: skip
    licences = [LicenseFactory().make_from_string(_spdx(entry.licence))] if entry.licence else []
    return Component(
        name=entry.name, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref="model",
        components=parts, licenses=licences,
        properties=[Property(name=f"tokenscope:{n}", value=str(v)) for n, v in told.items() if v],
    )  # fmt: skip


def _spdx(licence: str) -> str:
    """How SPDX spells the licences that model cards name in lower case."""
    known = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause"}
    return known.get(licence.lower(), licence)


def _card(entry: Entry) -> dict[str, Any]:
    return {
        "modelParameters": {
            "task": "text-generation",
            "modelArchitecture": entry.architecture,
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        }
    }


def sha256(path: Path) -> str:
    """Of a file, hexadecimal. Raises ModelError where it cannot be read."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
    except OSError as error:
        raise ModelError(str(path), f"cannot be read ({error.strerror})") from error
    return found.hexdigest()


def _software() -> Iterator[Component]:
    """What is installed of TokenScope's requirements, and of theirs."""
    seen: set[str] = set()
    waiting = ["tokenscope"]
    while waiting:
        name = _normal(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        waiting += [r for text in found.requires or () if (r := _required(text)) is not None]
        if name == "tokenscope":
            continue
        said = str(found.metadata["License-Expression"] or "")  # None where it does not say
        licences = [LicenseFactory().make_from_string(said)] if said else []
        yield Component(
            name=name, version=found.version, type=ComponentType.LIBRARY, bom_ref=f"pypi/{name}",
            purl=PackageURL("pypi", None, name, found.version), licenses=licences,
        )  # fmt: skip


def _required(text: str) -> str | None:
    """The name of a requirement that holds here without extras."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return None
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    return wanted.name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
