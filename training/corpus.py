"""Collects permissively licensed Python, removes duplicates and holds some files out.

The corpus is the standard library of the running Python (tests included) and packages that
are installed beside it. A package counts only if its own metadata names a permissive licence.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import itertools
import json
import re
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HELDOUT_LIST = Path(__file__).parent / "heldout.json"

# Distributions that the project's environments install; nothing else is looked at.
PACKAGES = """
accelerate anyio captum click fastapi filelock fonttools fsspec greenlet huggingface_hub httpx2
httpcore2 idna jinja2 markdown-it-py markupsafe matplotlib mpmath mypy networkx numpy packaging
pandas pillow playwright psutil pyarrow pydantic pygments pyparsing pytest python-dateutil
pyyaml regex rich safetensors setuptools sqlalchemy starlette sympy tokenizers torch
transformers typer typing_extensions uvicorn
""".split()  # noqa: SIM905
PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|HPND|0BSD)\b", re.I)
RESTRICTIVE = re.compile(r"\b(A?GPL|LGPL|GPL|MPL|Mozilla|EPL|CDDL|EUPL|SSPL|Proprietary)", re.I)
VENDORED = re.compile(r"(^|/)(_?vendor(ed)?|_?extern(als?)?|site-packages|third_party|thirdparty)/")
PACKAGE_CAP = 1_600_000  # bytes a package may add in the CPU recipe; the GPU recipe has no cap
DUPLICATE_SHARE = 0.4  # a file with more known line pairs than this is a near-duplicate
MIN_BYTES, MAX_BYTES = 400, 200_000


@dataclass(frozen=True, slots=True)
class Document:
    """One Python file: where it is from, under which licence, and its cleaned text."""

    package: str
    path: str
    license: str
    text: str

    @property
    def name(self) -> str:
        """`package:path`, stable between machines."""
        return f"{self.package}:{self.path}"

    @property
    def digest(self) -> str:
        """SHA-256 of the cleaned text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def license_of(distribution: importlib.metadata.Distribution) -> str:
    """The licence that a distribution's metadata states, on one line, or an empty string."""
    meta = distribution.metadata
    stated: str = (meta.get_all("License-Expression") or [""])[0]
    if not stated:
        classifiers = meta.get_all("Classifier") or []
        found = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")]
        stated = ", ".join(c for c in found if c != "OSI Approved")
    if not stated:
        stated = (meta.get_all("License") or [""])[0].strip().partition("\n")[0]
    return stated


def is_permissive(stated: str) -> bool:
    """Whether a licence statement is MIT/BSD/Apache/PSF-like and names no copyleft licence."""
    return bool(PERMISSIVE.search(stated)) and not RESTRICTIVE.search(stated)


def clean(text: str) -> str:
    """Normal line ends, no trailing blanks, and no leading licence comment."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    lines = [line.rstrip() for line in text.split("\n")]
    end = 0
    while end < len(lines) and (not lines[end] or lines[end].startswith("#")):
        end += 1
    head = "\n".join(lines[:end])
    if re.search(r"licen[sc]e|copyright|all rights reserved|coding[:=]|^#!", head, re.I):
        lines = lines[end:]
    return "\n".join(lines).strip("\n") + "\n"


def looks_written(text: str) -> bool:
    """Whether a text is code that a person wrote: it parses, and it is not a table of data."""
    if not MIN_BYTES <= len(text.encode()) <= MAX_BYTES:
        return False
    lines = text.split("\n")
    digits = sum(map(text.count, "0123456789"))
    escapes = text.count("\\x") + text.count("\\u")
    foreign = sum(1 for c in text if ord(c) > 127)
    if max(map(len, lines)) > 600 or len(text) / len(lines) > 80:
        return False
    if digits > 0.12 * len(text) or escapes * 4 > 0.05 * len(text) or foreign > 0.03 * len(text):
        return False
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def read_document(package: str, path: str, stated: str, file: Path) -> Document | None:
    """The cleaned document of a file, or None where the file is not UTF-8 text."""
    try:
        return Document(package, path, stated, clean(file.read_text("utf-8")))
    except (UnicodeDecodeError, OSError):
        return None


def stdlib_documents(only: Container[str] | None = None) -> Iterator[Document]:
    """The standard library of the running Python, its tests included; or `only` some paths."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if VENDORED.search(path) or (only is not None and path not in only):
            continue
        if doc := read_document("stdlib", path, "PSF-2.0", file):
            yield doc


def package_documents(name: str, only: Container[str] | None = None) -> Iterator[Document]:
    """The Python files of an installed distribution, if its licence allows; or `only` some."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    stated = license_of(distribution)
    if not is_permissive(stated):
        return
    for entry in sorted(distribution.files or [], key=str):
        path = entry.as_posix()
        if not path.endswith(".py") or path.startswith("..") or VENDORED.search(path):
            continue
        if only is not None and path not in only:
            continue
        if doc := read_document(name, path, stated, Path(str(entry.locate()))):
            yield doc


def line_pairs(text: str) -> set[int]:
    """Hashes of the pairs of neighbouring lines, blanks and indentation ignored."""
    lines = [stripped for line in text.split("\n") if len(stripped := line.strip()) > 2]
    return {hash(pair) for pair in itertools.pairwise(lines)}


class Deduplicator:
    """Keeps a file only if most of its line pairs are new; remembers those of kept files."""

    def __init__(self, share: float = DUPLICATE_SHARE) -> None:
        self.share = share
        self.digests: set[str] = set()
        self.pairs: set[int] = set()

    def admit(self, doc: Document) -> bool:
        """True, and the file is remembered, if it is no (near-)duplicate of what was kept."""
        if doc.digest in self.digests:
            return False
        pairs = line_pairs(doc.text)
        if not pairs or len(pairs & self.pairs) > self.share * len(pairs):
            return False
        self.digests.add(doc.digest)
        self.pairs |= pairs
        return True


def shuffled(documents: Iterable[Document]) -> list[Document]:
    """Documents in an order that depends on their names only."""
    return sorted(documents, key=lambda d: hashlib.sha256(d.name.encode()).digest())


def split(
    documents: Iterable[Document], heldout_names: set[str] | None, cap: int | None, every: int = 48
) -> tuple[list[Document], list[Document]]:
    """(training files, held-out files), free of duplicates within and between the two.

    Without a list of held-out names, every `every`-th file of the capped mix is held out.
    """
    kept: list[Document] = []
    first_pass = Deduplicator()
    used: dict[str, int] = defaultdict(int)
    ordered = shuffled(documents)
    if heldout_names:
        ordered.sort(key=lambda d: d.name not in heldout_names)
    for doc in ordered:
        size = len(doc.text.encode())
        named = bool(heldout_names) and doc.name in (heldout_names or ())
        if cap is not None and doc.package != "stdlib" and used[doc.package] + size > cap:
            continue
        if named or first_pass.admit(doc):
            if named:
                first_pass.admit(doc)
            used[doc.package] += size
            kept.append(doc)
    if heldout_names:
        heldout = [d for d in kept if d.name in heldout_names]
    else:
        heldout = kept[::every]
    names = {d.name for d in heldout}
    second_pass = Deduplicator()
    for doc in heldout:
        second_pass.admit(doc)
    train = [d for d in kept if d.name not in names and second_pass.admit(d)]
    if not heldout_names:  # a small file may be contained in a larger one that came later
        known = {pair for d in train for pair in line_pairs(d.text)}
        heldout = [d for d in heldout if known_share(d, known) <= DUPLICATE_SHARE]
    return train, heldout


def known_share(doc: Document, known: set[int]) -> float:
    """How much of a document's line pairs are among the known ones."""
    pairs = line_pairs(doc.text)
    return len(pairs & known) / max(1, len(pairs))


def all_documents(report: Callable[[str], None] = lambda _: None) -> list[Document]:
    """Every usable document of the standard library and of the listed packages."""
    found: list[Document] = []
    for name in ["stdlib", *PACKAGES]:
        source = stdlib_documents() if name == "stdlib" else package_documents(name)
        documents = [d for d in source if looks_written(d.text)]
        report(f"{name}: {len(documents)} files, {sum(len(d.text) for d in documents):,} chars")
        found += documents
    return found


def write_heldout(heldout: list[Document], path: Path = HELDOUT_LIST) -> None:
    """Writes the list of held-out files with their digests."""
    rows = [{"name": d.name, "sha256": d.digest} for d in sorted(heldout, key=lambda d: d.name)]
    path.write_text(json.dumps(rows, indent=0) + "\n")


def read_heldout_names(path: Path = HELDOUT_LIST) -> dict[str, str]:
    """Name -> digest of every held-out file in the committed list."""
    if not path.exists():
        return {}
    return {row["name"]: row["sha256"] for row in json.loads(path.read_text())}


def locate_heldout(path: Path = HELDOUT_LIST) -> tuple[list[Document], list[str]]:
    """(held-out documents found unchanged on this machine, names of those missing or changed)."""
    wanted = read_heldout_names(path)
    paths: dict[str, set[str]] = defaultdict(set)
    for name in wanted:
        package, _, file = name.partition(":")
        paths[package].add(file)
    found: list[Document] = []
    for package, only in sorted(paths.items()):
        stdlib = package == "stdlib"
        source = stdlib_documents(only) if stdlib else package_documents(package, only)
        found += [d for d in source if wanted.get(d.name) == d.digest]
    return found, sorted(wanted.keys() - {d.name for d in found})


def save(documents: list[Document], path: Path) -> None:
    """Writes documents as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        for d in documents:
            row = {"package": d.package, "path": d.path, "license": d.license, "text": d.text}
            out.write(json.dumps(row) + "\n")


def load(path: Path) -> list[Document]:
    """Reads documents that `save` wrote."""
    with path.open() as lines:
        return [Document(**json.loads(line)) for line in lines]


def build(folder: Path, cap: int | None, report: Callable[[str], None]) -> list[Document]:
    """Makes (or reads) the corpus in `folder`; returns the training documents."""
    train_path = folder / "train.jsonl"
    if not train_path.exists():
        names = read_heldout_names()
        train, heldout = split(all_documents(report), set(names) or None, cap)
        if not names:
            write_heldout(heldout)
        save(heldout, folder / "heldout.jsonl")
        save(train, train_path)
        mine = sum(len(d.text.encode()) for d in train)
        report(f"corpus: {len(train)} files, {mine:,} bytes; held out: {len(heldout)} files")
    return load(train_path)
