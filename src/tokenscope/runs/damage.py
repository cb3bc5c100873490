"""What edits do to a model on a text that they are not about: so that nobody takes a broken model
for a steered one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from tokenscope.backends.protocol import Feed, Full
from tokenscope.control import QUIET, Control
from tokenscope.decode.appliers import INNER, prepared
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError, InputError
from tokenscope.runs.edits import scene_of
from tokenscope.runs.settings import Settings
from tokenscope.trace.edits import Edit, Standing
from tokenscope.trace.origin import Request

PIECE = 64  # tokens fed at a time: their logits, twice, are held at once
MOST = 4096  # tokens of a reference text


@dataclass(frozen=True, slots=True)
class Damage:
    """Over the ``tokens`` predicted positions of a reference text.

    ``kl``: mean KL(edited || own) in nats per token: what the edits would cost on it on average
    (the mean of ``price``), finite for masks too. ``same_top``: share of positions whose likeliest
    token is the same. ``nats`` and ``nats_edited``: mean surprisal of the text to the model as it
    is and under the edits (inf where a mask forbids it). ``left_out``: kinds that say nothing about
    another text (a grammar, a deadline, a patch at a position, attention to what is not there).
    """

    kl: float
    same_top: float
    nats: float
    nats_edited: float
    tokens: int
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {**asdict(self), "left_out": list(self.left_out)}


def damage(engine: Engine, edits: Sequence[Edit], text: str, control: Control = QUIET) -> Damage:
    """Read ``text`` twice, as the model is and under ``edits`` (in force from its first token on).

    Raises InputError for a text that is too short, AbilityError without full distributions.
    """
    if engine.abilities.scores != "full" or not engine.abilities.steps:
        raise AbilityError("this backend gives no full distributions to compare")
    given = engine.vocabulary.encode(text)
    most = min(MOST, engine.info.context or MOST)
    given = given.slice(0, min(len(given), most))
    if len(given) < 2:
        raise InputError("reference", "needs at least two tokens")
    scene = scene_of(engine, given, 0, frozenset(), "score", len(given), Request(), "", Settings())
    used: list[Edit] = []
    left: list[str] = []
    for edit in edits:
        if not isinstance(edit, Standing) or edit.anchors or edit.kind == "patch":
            left.append(edit.kind)
            continue
        edit = replace(edit, at=0, until=None)
        try:
            prepared([edit], scene)
        except InputError:
            if edit.kind != "attend":
                raise
            left.append(edit.kind)  # nothing of what it means stands in this text
            continue
        used.append(edit)
    # what rules text follows the run from its first token: nothing is given before it
    bare = replace(scene, given=given.slice(0, 0))
    changes = prepared([e for e in used if e.kind in INNER], scene).changes
    processors = prepared([e for e in used if e.kind not in INNER], bare).processors
    own, other = engine.stepper.start(), engine.stepper.start()
    ids = [int(i) for i in given.ids]
    sums = torch.zeros(4, dtype=torch.float64)
    for start in range(0, len(ids) - 1, PIECE):
        control.step(start, len(ids) - 1, "reference")
        end = min(start + PIECE, len(ids) - 1)
        with engine.turn, torch.inference_mode():
            p = _logits(engine, Feed(own, ids[start:end]))
            q = p
            if changes:
                q = _logits(engine, Feed(other, ids[start:end], changes=changes))
            rows = []
            for n in range(end - start):
                z = q[n]
                for process in processors:
                    z = process(z, ids[: start + n + 1])
                rows.append(z)
            sums += _sums(p, torch.stack(rows), torch.tensor(ids[start + 1 : end + 1]))
    kl, same, nats, edited = (sums / (len(ids) - 1)).tolist()
    return Damage(kl, same, nats, edited, len(ids) - 1, tuple(left))


def _logits(engine: Engine, feed: Feed) -> torch.Tensor:
    scores = engine.stepper.extend(feed).scores
    assert isinstance(scores, Full)
    return torch.as_tensor(scores.block(0, len(scores))).cpu()


def _sums(p: torch.Tensor, q: torch.Tensor, came: torch.Tensor) -> torch.Tensor:
    """(4,): summed KL(q || p), same tops, -ln p and -ln q of what came, of (n, V) logits."""
    own, edited = (torch.log_softmax(z.double(), dim=-1) for z in (p, q))
    weight = edited.exp()
    gap = torch.where(weight > 0, edited - own, torch.zeros(()))
    at = came[:, None]
    return torch.stack([
        (weight * gap).sum(), (own.argmax(-1) == edited.argmax(-1)).double().sum(),
        -own.gather(1, at).sum(), -edited.gather(1, at).sum(),
    ])  # fmt: skip
