"""Integrated gradients: against captum, against a line that is right by luck, on a real model."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch

import tokenscope as ts
from tests.explain.conftest import IDS
from tests.explain.test_attribution import TARGETS, eager
from tokenscope.backends.hf.internals import Internals
from tokenscope.control import Cancelled, Control
from tokenscope.errors import AbilityError
from tokenscope.explain import integrated
from tokenscope.explain.integrated import (
    GAP_NATS,
    Line,
    after,
    integrated_gradients,
    lines,
    settle,
    tolerance,
)
from tokenscope.explain.target import Target, ask


@TARGETS
def test_a_settled_line_equals_captum(internals: Internals, contrast: int | None) -> None:
    asked = ask(internals, IDS, Target(12, 3, contrast))
    made = settle(next(lines(asked)))
    base = internals.mean_embedding().expand_as(asked.embeds())
    oracle = captum.attr.IntegratedGradients(eager(asked))
    wanted = oracle.attribute(asked.embeds(), base, n_steps=64, method="gausslegendre")
    theirs = wanted.sum(-1)[0].detach().numpy()
    if not made.ok:  # experts: f jumps where the routing changes, and no gradient sees a jump
        assert abs(theirs.sum() - made.total) > tolerance(made.total)
        return
    apart = np.abs(made.values - theirs)
    assert apart.max() <= made.error + 1e-4 and abs(made.gap) <= made.error + 1e-4
    ends = eager(asked)(torch.cat([asked.embeds(), base])).detach()
    assert made.total == pytest.approx(float(ends[0] - ends[1]), abs=1e-4)


def step(at: float) -> Line:
    """Token 0 rises by 1 in a twentieth of the way, token 1 falls at the same place: their sum
    is right at every number of points, and no value is."""

    def f(rows: torch.Tensor) -> torch.Tensor:
        rise = torch.sigmoid((rows[:, :, 0] - at) * 60)
        return rise[:, 0] - rise[:, 1]

    ends = torch.zeros(1, 2, 1, dtype=torch.float64), torch.ones(1, 2, 1, dtype=torch.float64)
    return Line("nothing", *ends, f)


def test_a_gap_that_is_small_by_luck_is_not_believed() -> None:
    made = settle(step(0.391), budget=1024)
    assert made.ok and made.values == pytest.approx([1.0, -1.0], abs=GAP_NATS)
    early = settle(step(0.391), budget=0)
    assert abs(early.gap) < 1e-9 and not early.ok  # the sum alone would say: converged


def test_between_layers_it_is_the_stream_that_moves(llama: Internals) -> None:
    """Completeness holds from the layer on, and layer 0's stream is the embedding itself."""
    asked = ask(llama, IDS, Target(12, 3, 8))
    base = llama.mean_embedding().expand_as(asked.embeds())
    first, whole = settle(next(lines(asked))), settle(after(asked, 0, base))
    assert whole.values == pytest.approx(first.values, abs=1e-5)
    later = settle(after(asked, 2, base))
    assert later.ok and later.total == pytest.approx(first.total, abs=1e-4)
    assert np.abs(later.values - first.values).max() > 0.01


def test_the_bundled_model_converges_at_once(bundled: ts.Model) -> None:
    trace = bundled.score("import os\n\ndef read(path):\n    with open(path, 'r') as f")
    why = bundled.explain(trace, len(trace) - 1, method="integrated_gradients")
    assert why.gap is not None and abs(why.gap) <= GAP_NATS
    assert "from the mean embedding" in why.note and "Tried before" not in why.note


def test_what_will_not_settle_is_known_before_it_is_paid() -> None:
    """A rough line costs 33 runs and no gradient; a hopeless one the first 48."""

    def wave(high: float, turns: float) -> Line:
        ends = torch.zeros(1, 2, 1, dtype=torch.float64), torch.ones(1, 2, 1, dtype=torch.float64)
        return Line("nothing", *ends, lambda r: high * torch.sin(turns * r[:, 0, 0]) + r[:, 1, 0])

    rough = settle(wave(30.0, 71.0))
    assert rough.points == 0 and not rough.ok and "too rough to begin" in str(rough)
    assert not rough.values.any()
    hopeless = settle(wave(1.0, 171.0))
    assert hopeless.points == 48 and not hopeless.ok
    assert settle(wave(1.0, 7.0)).ok


def test_what_does_not_converge_names_what_was_tried(
    bundled: ts.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenscope.runs.explain import asked_of

    trace = bundled.score("import os\nprint(os.path")
    monkeypatch.setattr(integrated, "GAP_SHARE", 0.0)
    monkeypatch.setattr(integrated, "GAP_NATS", 1e-7)
    monkeypatch.setattr(integrated, "ROUGH", 1e12)
    monkeypatch.setattr(integrated, "HOPELESS", 1e12)
    asked = asked_of(bundled, trace, len(trace) - 1, None, None)
    with pytest.raises(AbilityError) as refused:
        integrated_gradients(asked, budget=0)
    for name in ("the mean embedding", "a newline's", "after 2 layers", "occlusion"):
        assert name in str(refused.value)


def test_a_real_model_converges_or_refuses(real: ts.Model) -> None:
    """What is shown adds up; else every line that was tried stands in the refusal."""
    from tokenscope.runs.explain import asked_of

    trace = real.score("x = [1, 2]\nprint(x")
    asked = asked_of(real, trace, len(trace) - 1, None, None)
    assert asked.n <= 24
    made, refused = None, ""
    try:
        made = integrated_gradients(asked, budget=48)
    except AbilityError as error:
        refused = str(error)
    if made is None:
        assert refused.count("the error is") + refused.count("too rough") == 3
        return
    assert made.total is not None and made.gap is not None
    assert abs(float(made.values.sum()) - made.total) <= tolerance(made.total)
    base = asked.internals.mean_embedding().expand_as(asked.embeds())
    if "newline" in made.note.split("Tried")[0]:
        assert asked.newline is not None
        base = asked.internals.embed([asked.newline]).expand_as(asked.embeds())
    wanted = asked.value() - float(asked.values(base)[0])
    assert made.total == pytest.approx(wanted, abs=1e-3)


def test_cancel_stops_between_pieces(llama: Internals) -> None:
    asked = ask(llama, IDS, Target(12, 3))
    seen: list[int] = []
    control = Control(lambda done, _total, _what: seen.append(done), lambda: len(seen) >= 2)
    with pytest.raises(Cancelled):
        integrated_gradients(asked, control)
    assert len(seen) == 2
