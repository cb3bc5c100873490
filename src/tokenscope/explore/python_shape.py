"""Python up to renaming of locals, formatting, comments and docstrings: two texts with one shape
are the same program but for names that nobody outside can see.

Locals are what a function binds: its assignments, loop targets, imports, inner functions, and its
parameters. A parameter keeps its name when it is keyword-only, or when a call in the text passes
that name by keyword. Names of a module or a class stay, and so does everything in a text that
uses ``locals``, ``vars``, ``eval`` or ``exec``.

A text that was cut off does not parse. Its shape is then that of the longest start of whole lines
that does, followed by the remaining tokens one by one: nothing is dropped but blanks and comments.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_CUTS = 60  # line ends that are tried, from the last one back
PEEKING = frozenset({"locals", "vars", "eval", "exec"})
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
MARKS = {tokenize.NEWLINE: "<line>", tokenize.INDENT: "<in>", tokenize.DEDENT: "<out>"}


def shape(text: str) -> str:
    """The shape of a Python text, whole or cut off. Equal shapes: equal up to the above."""
    tree = parsed(text)
    if tree is not None:
        return normal(tree)
    lines = text.splitlines(keepends=True)
    for n in range(len(lines) - 1, max(-1, len(lines) - 1 - MOST_CUTS), -1):
        head = "".join(lines[:n])
        tree = parsed(head)
        if tree is not None:
            return f"{normal(tree)}\n+ {' '.join(words(''.join(lines[n:])))}"
    return "+ " + " ".join(words(text))


def parsed(text: str) -> ast.Module | None:
    """The tree of a whole text; None when it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def words(text: str) -> list[str]:
    """Tokens without blanks and comments, with marks for lines and blocks; what cannot be read
    further stands as it is. The indentation of the first line tells what it belongs to."""
    body = text.lstrip("\n")
    indent = len(body) - len(body.lstrip(" \t"))
    found = [f"indent{indent}"] if body.strip() else []
    at = (1, 0)
    source = body[indent:]
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in MARKS:
                found.append(MARKS[token.type])
            elif token.type != tokenize.COMMENT and token.string.strip():
                found.append(token.string)
                at = token.end
    except (tokenize.TokenError, SyntaxError, IndentationError):
        lines = source.splitlines(keepends=True)
        rest = "".join(lines[at[0] - 1 :])[at[1] :] if at[0] <= len(lines) else ""
        found.append("?" + " ".join(rest.split()))
    while found and found[-1] in MARKS.values():  # a line end more or less tells nothing
        found.pop()
    return found


def normal(tree: ast.Module) -> str:
    """A dump of the tree with locals numbered in the order in which they are first bound."""
    for node in ast.walk(tree):
        _drop_docstring(node)
    if not any(isinstance(n, ast.Name) and n.id in PEEKING for n in ast.walk(tree)):
        keywords = {k.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords}
        _Renamer({k for k in keywords if k is not None}).block(tree.body, None)
    return ast.dump(tree, annotate_fields=False, include_attributes=False)


def _drop_docstring(node: ast.AST) -> None:
    body = getattr(node, "body", None)
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    if body and isinstance(first, ast.Constant) and isinstance(first.value, str):
        node.body = body[1:] or [ast.Pass()]


@dataclass
class _Names:
    """One scope that has locals. ``new``: old name -> its number. ``outer``: the scope around."""

    outer: _Names | None
    new: dict[str, str] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)  # global or nonlocal: not bound here

    def find(self, name: str) -> str | None:
        """What a name is called now; None: no local of any scope around."""
        scope: _Names | None = self
        while scope is not None:
            if name in scope.free and name not in scope.new:
                scope = scope.outer if name in scope.nonlocals else None
                continue
            if name in scope.new:
                return scope.new[name]
            scope = scope.outer
        return None

    nonlocals: set[str] = field(default_factory=set)


class _Renamer:
    def __init__(self, keywords: set[str]) -> None:
        self._keywords = keywords
        self._count = 0

    def block(self, body: list[ast.stmt], names: _Names | None) -> None:
        for statement in body:
            self.visit(statement, names)

    def visit(self, node: ast.AST, names: _Names | None) -> None:
        """Rename what stands below ``node``; ``names`` are the locals in sight."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            self._function(node, names)
            return
        if isinstance(node, ast.ClassDef):
            self._own_name(node, "name", names)
            for part in (*node.decorator_list, *node.bases, *node.keywords):
                self.visit(part, names)
            # what a class binds is seen from outside: its body has no locals of its own
            inner = _Names(names)
            inner.free = set(_bound(node.body))
            self.block(node.body, inner)
            return
        if isinstance(node, COMPREHENSIONS):
            self._comprehension(node, names)
            return
        if isinstance(node, ast.Name):
            self._own_name(node, "id", names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            self._own_name(node, "name", names)
        elif isinstance(node, ast.MatchMapping):
            self._own_name(node, "rest", names)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [(names.find(n) if names else None) or n for n in node.names]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                self._alias(alias, isinstance(node, ast.Import), names)
        for child in ast.iter_child_nodes(node):
            self.visit(child, names)

    def _function(self, node: Scope, outer: _Names | None) -> None:
        if not isinstance(node, ast.Lambda):
            self._own_name(node, "name", outer)
            for part in (*node.decorator_list, *([node.returns] if node.returns else [])):
                self.visit(part, outer)
        given = node.args
        for value in (*given.defaults, *given.kw_defaults):
            if value is not None:
                self.visit(value, outer)
        inner = _Names(outer)
        body: list[ast.stmt] = [ast.Expr(node.body)] if isinstance(node, ast.Lambda) else node.body
        inner.nonlocals = set(_declared(body, ast.Nonlocal))
        inner.free = inner.nonlocals | set(_declared(body, ast.Global))
        kept = {a.arg for a in given.kwonlyargs} | self._keywords
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        every += [a for a in (given.vararg, given.kwarg) if a is not None]
        for argument in every:
            new = argument.arg if argument.arg in kept else self._fresh()
            inner.new.setdefault(argument.arg, new)
            if argument.annotation is not None:
                self.visit(argument.annotation, outer)
            argument.arg = inner.new[argument.arg]
        for name in _bound(body):
            if name not in inner.free and name not in inner.new:
                inner.new[name] = self._fresh()
        if isinstance(node, ast.Lambda):
            self.visit(node.body, inner)
        else:
            self.block(node.body, inner)

    def _comprehension(self, node: ast.AST, outer: _Names | None) -> None:
        generators: list[ast.comprehension] = getattr(node, "generators", [])
        self.visit(generators[0].iter, outer)  # the first iterable is read outside
        inner = _Names(outer)
        for generator in generators:
            for name in _targets(generator.target):
                if name not in inner.new:
                    inner.new[name] = self._fresh()
        for n, generator in enumerate(generators):
            self.visit(generator.target, inner)
            if n:
                self.visit(generator.iter, inner)
            for test in generator.ifs:
                self.visit(test, inner)
        for part in ("elt", "key", "value"):
            if (value := getattr(node, part, None)) is not None:
                self.visit(value, inner)

    def _alias(self, alias: ast.alias, whole: bool, names: _Names | None) -> None:
        bound = alias.asname or (alias.name.split(".")[0] if whole else alias.name)
        new = names.find(bound) if names is not None else None
        # `import a.b` binds a: without another name there is nothing that could be renamed
        if new is not None and (alias.asname or "." not in alias.name):
            alias.asname = new

    def _own_name(self, node: ast.AST, attribute: str, names: _Names | None) -> None:
        name = getattr(node, attribute)
        new = names.find(name) if names is not None and name else None
        if new is not None:
            setattr(node, attribute, new)

    def _fresh(self) -> str:
        self._count += 1
        return f"<{self._count}>"  # no name that a text could hold


def _walk_scope(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Nodes of a scope in the order of the text, without those of scopes inside it."""
    stack: list[ast.AST] = list(reversed(body))
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        stack.extend(reversed(list(ast.iter_child_nodes(node))))


def _declared(body: list[ast.stmt], kind: type[ast.Global] | type[ast.Nonlocal]) -> Iterator[str]:
    for node in _walk_scope(body):
        if isinstance(node, kind):
            yield from node.names


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that a scope binds. Targets of comprehensions are theirs; ``:=`` in them is ours."""
    inside: set[int] = set()
    for node in _walk_scope(body):
        if isinstance(node, COMPREHENSIONS):
            for generator in node.generators:
                inside.update(id(n) for n in ast.walk(generator.target))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            if id(node) not in inside:
                yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            if node.name:
                yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname or "." not in alias.name:
                    yield alias.asname or alias.name
        elif isinstance(node, ast.ImportFrom):
            yield from (a.asname or a.name for a in node.names if a.name != "*")


def _targets(target: ast.AST) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
