"""Is this the beginning of some program? tree-sitter's best, for languages without an oracle.

A grammar for error recovery accepts more than the language and cannot say what may follow. So:

``viable``   a *witness* was found: the text followed by a few tokens parses without error;
``not``      a bracket closes what was never opened, which nothing that follows can mend;
``unknown``  neither, which is honest and common (a tree with an error is no proof: 61 % of valid
             prefixes have one).
"""

from __future__ import annotations

import re
from typing import Literal

from tree_sitter import Tree

from tokenscope.code.language import Language
from tokenscope.code.languages import LANGUAGES
from tokenscope.code.tree import Flat, tree_of
from tokenscope.trace.regions import CATEGORY_CODE

Verdict = Literal["viable", "not", "unknown"]

_PAIRS = {b"(": b")", b"[": b"]", b"{": b"}"}
_CLOSERS = {v: k for k, v in _PAIRS.items()}
# What may end an open construct, most likely first. {} stands for the closing brackets; the second
# word completes a statement, a head or an operand that has only begun.
_ENDINGS = (
    "{}", "{};", " x{}", " x{};", ";{}", "\n{}", " {{}}{}", " x {{}}{}", "x() {{}}{}", ": x{}",
    ": x;{}", ' "x"{}', " = x;{}", " = x{}", ") {{}}{}", " x){}", ' x"{}', "\"{}", "'{}", "\";{}",
    "`{}", "*/{}", ">{}", " x>{}", "/>{}", "1{}", "1;{}", " then x; fi{}", "; do x; done{}",
    " x; do x; done{}", "\nend{}", " x\nend{}", " x{};\n}}", ": null{}", ' "x": null{}', "->x{}",
    " from x{}", " x int{}", "=x{}", " x() {{}}{}", "px{}", "x=\"\">{}",
)  # fmt: skip
_TRIES_BYTES = 20_000  # longer texts are judged by their brackets alone: a try costs a parse


def verdict(prefix: bytes, language: str) -> Verdict:
    """Whether some text beginning with ``prefix`` parses. Raises UnknownName."""
    entry = LANGUAGES.get(language)
    tree = tree_of(prefix, entry, budget_s=1.0)
    if tree is None:
        return "unknown"
    open_, broken = _brackets(prefix, entry, tree)
    if broken:
        return "not"
    if len(prefix) > _TRIES_BYTES:
        return "unknown"
    for closing in _closings(open_, language):
        for ending in _ENDINGS:
            if _clean(prefix, ending.format(closing).encode(), entry, tree):
                return "viable"
    tags = _tags(prefix) if language in ("html", "tsx", "javascript") else b""
    return "viable" if tags and _clean(prefix, tags, entry, tree) else "unknown"


def _closings(open_: list[bytes], language: str) -> list[str]:
    """What may close all that stands open: the brackets, and the words of some languages."""
    plain = b"".join(_PAIRS[b] for b in reversed(open_)).decode()
    found = [plain]
    if language in ("c", "cpp") and "}" in plain:
        found += [plain.replace("}", "};"), plain.replace("}", "};", 1), plain + ";"]
    if language in ("c", "cpp", "csharp"):
        found.append(plain + "\n#endif\n")
    if language == "ruby":
        found += [plain + "\nend" * n for n in range(1, 7)]
    if language == "bash":
        found += [plain.replace("}", end) for end in ("\nfi\n}", "\ndone\n}", "\nesac\n}")]
        found += [plain.replace("}", "\nfi\ndone\n}"), ";; esac; done; }"]
    return found


def _clean(prefix: bytes, ending: bytes, language: Language, tree: Tree) -> bool:
    """Whether the prefix with this ending parses; the prefix is not parsed again for each."""
    before, size = tree.copy(), len(prefix)
    before.edit(size, size, size + len(ending), (0, 0), (0, 0), (0, 0))
    after = tree_of(prefix + ending, language, before, budget_s=1.0)
    return after is not None and not after.root_node.has_error


def _brackets(data: bytes, language: Language, tree: Tree) -> tuple[list[bytes], bool]:
    """The brackets that stand open, and whether one closes what was not open. Only brackets that
    the grammar itself takes for tokens count, never those in strings and comments; inside an
    error region the lexer may be astray, so a mismatch there proves nothing."""
    flat = Flat()
    if not flat.extend(tree, language):
        return [], False
    punctuation = language.categories == CATEGORY_CODE["punctuation"]
    open_: list[bytes] = []
    for symbol, start, end in zip(flat.symbol, flat.start, flat.end, strict=True):
        if not punctuation[symbol] or end == start:
            continue
        mark = data[end - 1 : end] if data[end - 1 : end] in _PAIRS else data[start:end]
        if mark in _PAIRS:
            open_.append(mark)
        elif mark in _CLOSERS:
            if open_ and open_[-1] == _CLOSERS[mark]:
                open_.pop()
            elif _plain(data):
                return open_, True
    return open_, False


def _plain(data: bytes) -> bool:
    """No quotes and no comment marks at all: then a bracket is a bracket."""
    return not any(mark in data for mark in (b"'", b'"', b"`", b"//", b"/*", b"#", b"--", b"<"))


def _tags(data: bytes) -> bytes:
    """HTML and JSX: what closes the open tags, in order."""
    stack: list[bytes] = []
    for tag in re.finditer(rb"<(/?)([A-Za-z][\w.-]*)[^<>]*?(/?)>", data):
        if tag.group(3):
            continue
        if tag.group(1):
            if stack and stack[-1] == tag.group(2):
                stack.pop()
        else:
            stack.append(tag.group(2))
    return b"".join(b"</" + name + b">" for name in reversed(stack))
