"""Regular expressions, JSON schemas and Lark grammars: masks made by llguidance.

It reads the bytes of the vocabulary, so a grammar says what the text may be and nothing about how
it is cut into tokens. Where the text is whole and nothing may follow, only an end token is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import llguidance
import numpy as np
import torch

from tokenscope.decode.appliers import LOGITS, Processor, while_it_holds
from tokenscope.decode.pieces import Pieces
from tokenscope.decode.scene import Follow, Scene
from tokenscope.errors import InputError
from tokenscope.trace.constraints import Grammar, JsonSchema, Regex
from tokenscope.trace.edits import Standing

# without it, what must come next would be allowed in one way of cutting it only
OPEN = '%llguidance {"no_forcing": true}\n'
_TOKENIZERS: WeakKeyDictionary[Pieces, dict[frozenset[int], llguidance.LLTokenizer]] = (
    WeakKeyDictionary()
)


class _Words:
    """The vocabulary in the form that llguidance takes. It never has to cut a text into tokens."""

    bos_token_id = None

    def __init__(self, table: Pieces, ends: Sequence[int]) -> None:
        self.eos_token_id = ends[0]
        self.tokens = [p or b"\xff[%d]" % i for i, p in enumerate(table.pieces)]
        if ends[0] == len(table):
            self.tokens.append(b"\xff[end]")
        self.special_token_ids = [i for i, t in enumerate(self.tokens) if t[:1] == b"\xff"]

    def __call__(self, text: bytes) -> list[int]:
        """Nothing is cut here."""
        return []


def _tokenizer(table: Pieces, stop_ids: frozenset[int]) -> llguidance.LLTokenizer:
    made = _TOKENIZERS.setdefault(table, {})
    if stop_ids not in made:
        # a model without an end token gets one that cannot be drawn: it comes to a stop there
        ends = sorted(i for i in stop_ids if i < len(table)) or [len(table)]
        words = llguidance.TokenizerWrapper(_Words(table, ends))
        made[stop_ids] = llguidance.LLTokenizer(
            words, n_vocab=max(len(table), ends[0] + 1), eos_token=ends
        )
    return made[stop_ids]


def guided(edit: Standing, grammar: str, scene: Scene) -> Processor:
    """The mask of a grammar over what is written from ``edit.at`` on (0: from the first token).

    Raises InputError for a grammar that cannot be read, and where what was given breaks it.
    """
    table, begin = scene.pieces, scene.begin
    first = llguidance.LLMatcher(_tokenizer(table, scene.stop_ids), grammar, log_level=0)
    _sound(first, edit.kind, "cannot be read")
    if 0 < edit.at < begin:
        for i in scene.given.ids[edit.at :].tolist():
            first.consume_token(int(i))
        _sound(first, edit.kind, "is broken by what stands before")

    def step(matcher: llguidance.LLMatcher, token: int) -> llguidance.LLMatcher:
        matcher.consume_token(token)
        return matcher

    follow: Follow[llguidance.LLMatcher] = Follow(max(begin, edit.at), first.deep_copy, step)

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        bits = follow.at(seen).compute_bitmask()
        return logits.masked_fill(_refused(bits, logits), -torch.inf)

    return while_it_holds(edit, apply)


def _refused(bits: bytes, logits: torch.Tensor) -> torch.Tensor:
    allowed = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")
    return torch.from_numpy(allowed[: logits.shape[0]] == 0).to(logits.device)


def _sound(matcher: llguidance.LLMatcher, kind: str, otherwise: str) -> None:
    if matcher.is_error():
        why = matcher.get_error().splitlines()
        raise InputError("edits", f"{kind}: {otherwise} ({_place(why)})")


def _place(lines: Sequence[str]) -> str:
    """What llguidance says without the text that it quotes."""
    said = next((w.strip() for w in reversed(lines) if w.startswith("error:")), "")
    first = lines[0].partition(":")[0] if lines else ""
    return said or (first if first.startswith("at ") else "not allowed there")


def _regex(edit: Regex) -> str:
    """As a rule of one terminal: a bare slash would end it, and so would a line's end."""
    body = re.sub(r"(\\.)|/", lambda m: m.group(1) or "\\/", edit.pattern, flags=re.DOTALL)
    return "start: /" + body.replace("\n", "\\n") + "/"


def _register(kind: type[Any], rules: Callable[[Any], str]) -> None:
    def apply(edit: Standing, scene: Scene) -> Processor:
        return guided(edit, llguidance.LLMatcher.grammar_from_lark(OPEN + rules(edit)), scene)

    LOGITS.add(kind.kind, apply)


_register(Regex, _regex)
_register(JsonSchema, lambda edit: f"start: %json {json.dumps(json.loads(edit.schema))}")
_register(Grammar, lambda edit: edit.lark)
