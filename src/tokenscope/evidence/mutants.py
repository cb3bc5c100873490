"""Lines that a human would change, as labelled examples: mutants of real functions, users' own
pairs of before and after, or the history of a git repository.

A mutant is a function in which one operator, constant or name was replaced by another that still
parses: what a slip looks like. Half of the functions are left as they are, so a line's base rate
is that of these samples, not of anybody's code.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import keyword
import random
import subprocess
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenscope.errors import InputError, MissingError

SWAPS = {
    "<": ("<=",), "<=": ("<",), ">": (">=",), ">=": (">",), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "*": ("+",), "//": ("%",), "and": ("or",), "or": ("and",),
    "True": ("False",), "False": ("True",), "break": ("continue",), "continue": ("break",),
    "not": ("",), "+=": ("-=",), "-=": ("+=",),
}  # fmt: skip
SHORTEST, LONGEST = 6, 40  # lines of a function
PER_FILE = 2
MOST_BYTES = 200_000
_BINARY = {"+", "-", "*", "//"}


@dataclass(frozen=True, slots=True)
class Example:
    """``text`` as it was before the change; ``changed``: the lines (from 0) that a human changed,
    none where it was left alone; ``lines``: those that could have been. ``file``: what it is held
    out with."""

    file: str
    text: str
    changed: frozenset[int]
    lines: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Site:
    line: int
    start: int
    end: int
    choices: tuple[str, ...]


def mutants(files: Iterable[Path], seed: int = 0, per_file: int = PER_FILE) -> Iterator[Example]:
    """Examples of Python files: at most ``per_file`` functions of each, every second with one
    mutant."""
    for path in files:
        try:
            text = path.read_text("utf-8")
            tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        chance = random.Random(f"{seed}:{path.name}")  # noqa: S311
        found = list(_functions(text, tree))
        chance.shuffle(found)
        for number, code in enumerate(found[:per_file]):
            if (made := example(str(path), code, chance, bool(number % 2))) is not None:
                yield made


def example(file: str, code: str, chance: random.Random, left: bool) -> Example | None:
    """One function with a mutant, or ``left`` alone; None where nothing of it could be changed."""
    sites = list(_sites(code))
    if not sites:
        return None
    lines = frozenset(s.line for s in sites)
    if left:
        return Example(file, code, frozenset(), lines)
    for _ in range(8):
        site = chance.choice(sites)
        made = code[: site.start] + chance.choice(site.choices) + code[site.end :]
        try:
            compile(made, "<mutant>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        return Example(file, made, frozenset({site.line}), lines)
    return None


def candidates(code: str) -> frozenset[int]:
    """The lines of Python in which something could be slipped in; empty where it does not parse."""
    try:
        return frozenset(s.line for s in _sites(code))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return frozenset()


def library(most: int, seed: int = 0) -> list[Path]:
    """``most`` files of the standard library of this Python, drawn by ``seed``; no tests of it."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "__pycache__"}
    found = [
        p for p in sorted(root.rglob("*.py"))
        if not skipped & set(p.relative_to(root).parts) and 2000 < p.stat().st_size < MOST_BYTES
    ]  # fmt: skip
    random.Random(seed).shuffle(found)  # noqa: S311
    return found[:most]


def pairs(path: Path) -> Iterator[Example]:
    """Examples from JSON lines with ``before`` and ``after`` (and ``file``: held out together).

    Raises InputError with the line.
    """
    with open(path, "rb") as opened:
        for number, line in enumerate(opened, 1):
            try:
                held = json.loads(line)
                before, after = str(held["before"]), str(held["after"])
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{path.name} line {number}", "needs before and after") from None
            made = pair(str(held.get("file", number)), before, after)
            if made is not None:
                yield made


def pair(file: str, before: str, after: str) -> Example | None:
    """The lines of ``before`` that are not in ``after``; None where it has no line of code."""
    one, two = before.splitlines(), after.splitlines()
    changed: set[int] = set()
    for tag, a, b, _, _ in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if tag in ("replace", "delete"):
            changed.update(range(a, b))
    lines = candidates(before) | {n for n in changed if one[n].strip()}
    return Example(file, before, frozenset(changed & lines), frozenset(lines)) if lines else None


def history(root: Path, most: int = 200) -> Iterator[Example]:
    """Functions that the last commits of a git repository changed, as they were before.

    Raises InputError where there is none, MissingError without git.
    """
    asked = ["log", f"-{most}", "--no-merges", "--diff-filter=M", "--format=%H", "--name-only",
             "-z", "--", "*.py"]  # fmt: skip
    commit = ""
    for piece in _git(root, *asked).replace("\n", "\0").split("\0"):
        if len(piece) == 40 and not piece.endswith(".py"):
            commit = piece
        elif piece.endswith(".py") and commit:
            try:
                before = _git(root, "show", f"{commit}~1:{piece}")
                after = _git(root, "show", f"{commit}:{piece}")
                yield from _changed_functions(piece, before, after)
            except InputError:
                continue  # a root commit, or a file that was moved


def _changed_functions(file: str, before: str, after: str) -> Iterator[Example]:
    try:
        old, new = ast.parse(before), ast.parse(after)
    except (SyntaxError, ValueError):
        return
    now = dict(_named(after, new))
    for name, code in _named(before, old):
        if name in now and now[name] != code and (made := pair(file, code, now[name])):
            yield made


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=60
        )
    except FileNotFoundError:
        raise MissingError("git is not installed") from None
    except (subprocess.SubprocessError, OSError) as error:
        raise InputError("--git", "is no git repository, or has no such history") from error
    return done.stdout.decode("utf-8", "replace")


def _named(text: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    lines = text.splitlines(keepends=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            body = lines[node.lineno - 1 : node.end_lineno]
            if SHORTEST <= len(body) <= LONGEST and not node.decorator_list:
                cut = node.col_offset
                yield node.name, "".join(x[cut:] if x[:cut].isspace() or not cut else x
                                         for x in body)  # fmt: skip


def _functions(text: str, tree: ast.AST) -> Iterator[str]:
    for _, code in _named(text, tree):
        try:
            compile(code, "<function>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        yield code if code.endswith("\n") else code + "\n"


def _sites(code: str) -> Iterator[_Site]:
    """Where something can be replaced. Raises what ``tokenize`` raises."""
    starts = [0]
    for line in code.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    kept = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
    read = tokenize.generate_tokens(io.StringIO(code).readline)
    tokens = [t for t in read if t.type in kept]
    names = sorted({
        t.string for n, t in enumerate(tokens)
        if t.type == tokenize.NAME and not keyword.iskeyword(t.string)
        and (n == 0 or tokens[n - 1].string not in (".", "def", "import", "from", "class"))
        and (n + 1 == len(tokens) or tokens[n + 1].string != "(")
    })  # fmt: skip
    for n, t in enumerate(tokens):
        before = tokens[n - 1].string if n else ""
        after = tokens[n + 1].string if n + 1 < len(tokens) else ""
        choices: tuple[str, ...] = ()
        operand = n > 0 and (before in (")", "]") or tokens[n - 1].type != tokenize.OP)
        if t.string in SWAPS and (t.string not in _BINARY or (operand and before != "return")):
            choices = SWAPS[t.string] if not (t.string == "not" and before == "is") else ()
        elif t.type == tokenize.NUMBER and t.string.isdigit() and len(t.string) < 5:
            choices = (str(int(t.string) + 1),)
        elif (
            t.type == tokenize.NAME and t.string in names and before not in ("def", ".", "for")
            and after not in ("=", "(", ":", ",") and t.start[0] > 1
        ):  # fmt: skip
            choices = tuple(x for x in names if x != t.string and x not in ("self", "cls"))
        if choices:
            low = starts[t.start[0] - 1] + t.start[1]
            yield _Site(t.start[0] - 1, low, low + len(t.string), choices)
