"""Masks that ask about one token at a time: only viable Python, no forbidden code.

To ask about every token would take seconds. So tokens are judged from the likeliest on, until the
judged hold ``cover`` of the mass and one of them may come; what was not judged cannot be drawn.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from tokenscope.code.forbidden import Forbidden
from tokenscope.code.prefix_python import PythonPrefix, viable
from tokenscope.decode.appliers import JUDGES, Processor, while_it_holds
from tokenscope.decode.scene import Follow, Scene
from tokenscope.errors import InputError
from tokenscope.trace.constraints import BanCode, Viable

BLOCK = 64  # tokens that are taken off the device at a time
MOST = 256  # tokens that are judged at one position, once one of them may come
LAST = 8192  # and when none may: then the run is stuck


class Judge(Protocol):
    """What was written so far, and what may follow."""

    def append(self, piece: bytes) -> None:
        """This was written."""
        ...

    def allows(self, piece: bytes) -> bool:
        """Whether this may be written next."""
        ...

    def ends(self) -> bool:
        """Whether the text may end here."""
        ...


def judged(fresh: Callable[[], Judge], cover: float, scene: Scene) -> Processor:
    """A processor that keeps the judged tokens that may come."""
    pieces = scene.pieces.pieces

    def step(judge: Judge, token: int) -> Judge:
        judge.append(pieces[token])
        return judge

    follow: Follow[Judge] = Follow(scene.begin, fresh, step)

    def allowed(judge: Judge, token: int) -> bool:
        if token in scene.stop_ids:
            return judge.ends()
        return bool(pieces[token]) and judge.allows(pieces[token])

    def apply(logits: torch.Tensor, seen: Sequence[int]) -> torch.Tensor:
        judge, size = follow.at(seen), int(logits.shape[0])
        p = torch.softmax(logits.float(), dim=0)
        top = p.sort(descending=True, stable=True)
        kept: list[int] = []
        held = 0.0
        for start in range(0, min(size, LAST), BLOCK):
            if kept and (held >= cover or start >= MOST):
                break
            block = slice(start, start + BLOCK)
            ids, masses = top.indices[block].tolist(), top.values[block].tolist()
            for token, mass in zip(ids, masses, strict=True):
                if mass <= 0.0 or (kept and held >= cover):
                    break
                held += mass
                if allowed(judge, token):
                    kept.append(token)
        out = torch.full_like(logits, -torch.inf)
        out[kept] = logits[kept]
        return out

    return apply


class _Program:
    """Python that can go on to be a program, and ends only as one."""

    def __init__(self, head: bytes) -> None:
        self._prefix = PythonPrefix()
        self._prefix.append(head)
        self._all = bytearray(head)

    def append(self, piece: bytes) -> None:
        self._prefix.append(piece)
        self._all += piece

    def allows(self, piece: bytes) -> bool:
        return self._prefix.viable(piece) is True

    def ends(self) -> bool:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(bytes(self._all).decode())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
        return True


@JUDGES.register(Viable.kind)
def only_viable(edit: Viable, scene: Scene) -> Processor:
    """Raises InputError where what stands before is no beginning of a program."""
    head = scene.head(edit.scope, edit.at or scene.begin)
    if viable(head) is not True:
        raise InputError(
            "edits", "viable: what stands before is not the beginning of a Python program "
            "(scope 'generated' looks at what comes alone)",
        )  # fmt: skip
    return while_it_holds(edit, judged(lambda: _Program(head), edit.cover, scene))


class _Clean:
    """Text that holds nothing forbidden beyond its head."""

    def __init__(self, head: bytes, forbidden: Forbidden) -> None:
        self._all = head
        self._forbidden = forbidden
        self._suspects = forbidden.suspects(head)

    def append(self, piece: bytes) -> None:
        self._all += piece
        self._suspects = self._forbidden.suspects(self._all)

    def allows(self, piece: bytes) -> bool:
        if not self._suspects and not self._forbidden.concerns(self._all, piece):
            return True
        return not self._forbidden.holds(self._all + piece)

    def ends(self) -> bool:
        return True


@JUDGES.register(BanCode.kind)
def ban_code(edit: BanCode, scene: Scene) -> Processor:
    """Raises InputError for a query that cannot be read, UnknownName for a language."""
    at = edit.at or scene.begin
    head = scene.head(edit.scope, at)
    begin = len(head) - len(scene.bytes_from(at))  # what was given before the edit is let be
    forbidden = Forbidden(edit.imports, edit.calls, edit.query, edit.language, max(begin, 0))
    return while_it_holds(edit, judged(lambda: _Clean(head, forbidden), edit.cover, scene))
