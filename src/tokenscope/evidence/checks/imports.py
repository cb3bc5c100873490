"""Imports and attributes that do not exist (Python): what a model makes up, others can register.

A module is known when it is of the standard library of this Python, on the allow-list, or one of
the project's own. Attributes are checked for the standard library alone, by looking at the real
module. Only modules that lie in the standard library's own folder are ever imported, and none
that does something when it is.
"""

from __future__ import annotations

import ast
import importlib
import sys
import sysconfig
import warnings
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.evidence.closing import close_python
from tokenscope.trace.findings import Finding

# open a browser, print, start a window, are scripts, or belong to a test suite
_NEVER = {"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "test", "lib2to3",
          "__main__", "sitecustomize", "usercustomize", "pdb", "pyclbr"}  # fmt: skip
_LIST = Path(__file__).parent.parent / "packs" / "packages.txt"


@CHECKS.register("imports")
def check(code: Code, options: Options) -> Found:
    """``imports/unknown-module`` and ``imports/unknown-name``."""
    if code.language != "python":
        return Found()
    text = code.data.decode("utf-8", "replace")
    closed = None if "\ufffd" in text or text.startswith("\ufeff") else close_python(text)
    if closed is None:
        return Found(notes=["not judged: nothing of it parses"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(closed.text)
    allow = packages() if options.allow is None else options.allow
    # the last name of an unfinished text may become another one: os.pat, os.path
    end = closed.kept if code.complete or closed.dropped else closed.kept - 1
    seen = _Seen(closed.text, end, allow | options.project)
    for node in _in_order(tree):
        seen.look(node)
    return Found(seen.findings, [closed.note] if closed.note else [])


@cache
def packages() -> frozenset[str]:
    """The list that ships: top-level names of packages that are in wide use."""
    lines = _LIST.read_text().splitlines()
    return frozenset(w for line in lines if not line.startswith("#") for w in line.split())


@cache
def standard(name: str) -> ModuleType | None:
    """A module of the standard library, really looked at; None where it is none, is never
    imported, or does not exist. Hostile names reach this: the path is checked, not the name."""
    parts = name.split(".")
    if parts[0] not in sys.stdlib_module_names or not name.isascii():
        return None
    if any(p in _NEVER or (p.startswith("_") and p != "__future__") for p in parts):
        return None
    home, built = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
    where = sorted({home, built, str(Path(built) / "lib-dynload")})
    held = sys.modules.get(name)
    if held is None and parts[0] not in sys.builtin_module_names:
        for n in range(len(parts)):
            spec = PathFinder.find_spec(".".join(parts[: n + 1]), where)
            if spec is None:
                return None
            where = list(spec.submodule_search_locations or ())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def _in_order(tree: ast.AST) -> list[ast.AST]:
    nodes = [n for n in ast.walk(tree) if hasattr(n, "lineno")]
    return sorted(nodes, key=lambda n: (n.lineno, n.col_offset))  # type: ignore[attr-defined]


class _Seen:
    """Walks a module's nodes in order of their text and keeps what names stand for modules."""

    def __init__(self, text: str, last: int, known: frozenset[str]) -> None:
        self.findings: list[Finding] = []
        self._known = known
        self._last = last
        self._names: dict[str, str] = {}  # local name -> module of the standard library
        self._rebound: set[str] = set()
        self._starts = [0]
        for line in text.encode().splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if self._module(alias.name, alias):
                    local = alias.asname or alias.name.split(".")[0]
                    self._names[local] = alias.name if alias.asname else alias.name.split(".")[0]
                    self._rebound.discard(local)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if self._module(node.module, node):
                self._members(node.module, node)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self._rebound.add(node.id)
        elif isinstance(node, ast.arg):
            self._rebound.add(node.arg)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            self._attribute(self._module_of(node.value), node)

    def _module(self, name: str, node: ast.AST) -> bool:
        """Whether a module is known; one that is not becomes a finding."""
        top = name.split(".")[0]
        if top in self._known:
            return False  # it exists; what it holds is not looked at
        if top not in sys.stdlib_module_names:
            self._add("unknown-module", "no such module is known: neither in the standard library,"
                      " nor on the allow-list, nor of the project", node)  # fmt: skip
            return False
        if "." in name and top not in _NEVER and standard(name) is None:
            if standard(name.rpartition(".")[0]) is not None:
                self._add("unknown-module", "the standard library has no such module", node)
            return False
        return True

    def _members(self, module: str, node: ast.ImportFrom) -> None:
        held = standard(module)
        for alias in node.names:
            if held is None or alias.name == "*" or hasattr(held, alias.name):
                if held is not None and alias.name != "*":
                    self._rebound.add(alias.asname or alias.name)
                continue
            if standard(f"{module}.{alias.name}") is None:
                self._add("unknown-name", "the standard library's module has no such name", alias)

    def _module_of(self, node: ast.AST) -> str | None:
        """The standard library's module that an expression such as ``os.path`` stands for."""
        if isinstance(node, ast.Name):
            return None if node.id in self._rebound else self._names.get(node.id)
        if not isinstance(node, ast.Attribute) or not (above := self._module_of(node.value)):
            return None
        held = getattr(standard(above), node.attr, None)
        if isinstance(held, ModuleType):  # os.path is posixpath by its own name
            return f"{above}.{node.attr}" if standard(f"{above}.{node.attr}") else held.__name__
        return f"{above}.{node.attr}" if standard(f"{above}.{node.attr}") else None

    def _attribute(self, module: str | None, node: ast.Attribute) -> None:
        held = standard(module) if module else None
        if held is None or hasattr(held, node.attr) or standard(f"{module}.{node.attr}"):
            return
        self._add("unknown-name", "the standard library's module has no such name", node)

    def _add(self, rule: str, message: str, node: ast.AST) -> None:
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        if end <= self._last:
            self.findings.append(
                Finding(f"imports/{rule}", message, start, end, "imports", 1357, "medium", "medium")
            )
