"""The rules of packs, run over the syntax tree of the code, broken or not."""

from __future__ import annotations

from time import monotonic

from tree_sitter import QueryCursor, Tree

from tokenscope.code.languages import LANGUAGES
from tokenscope.code.tree import tree_of
from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.evidence.pack import Rule, starter
from tokenscope.trace.findings import Finding

_BUDGET_S = 5.0  # for all rules together over one text
_MATCHES = 4096  # matches under way in one query: a hostile text cannot make it grow


@CHECKS.register("rules")
def check(code: Code, options: Options) -> Found:
    """``PACK/RULE`` for every node that a rule of the packs captures as ``@finding``."""
    packs = starter() if options.packs is None else options.packs
    wanted = [(pack.name, rule) for pack in packs for rule in pack.of(code.language)]
    if not wanted:
        return Found()
    tree = tree_of(code.data, LANGUAGES.get(code.language))
    if tree is None:
        return Found(notes=["not judged: parsing took too long"])
    found, stop = Found(), monotonic() + _BUDGET_S
    for name, rule in wanted:
        if monotonic() > stop:
            found.notes.append("not all rules were tried: they took too long")
            break
        found.findings += matches(tree, name, rule, code.language)
    return found


def matches(tree: Tree, pack: str, rule: Rule, language: str) -> list[Finding]:
    """What one rule finds in a syntax tree.

    ``matches`` rather than ``captures``: the latter also yields captures of patterns that then
    fail (tree-sitter 0.26), and its progress callback brings the process down.
    """
    cursor = QueryCursor(rule.queries[language], match_limit=_MATCHES)
    hits = [n for _, held in cursor.matches(tree.root_node) for n in held.get("finding", ())]
    return [
        Finding(
            f"{pack}/{rule.id}", rule.message, node.start_byte, node.end_byte, "rules", rule.cwe,
            rule.severity, rule.confidence,
        )
        for node in hits
    ]  # fmt: skip
