"""The lens against the model's own output; direct logit attribution adds up to the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.explain.conftest import IDS
from tokenscope.backends.hf.anatomy import freeze_norm
from tokenscope.backends.hf.internals import Internals
from tokenscope.errors import AbilityError
from tokenscope.explain.lens import direct_logits, logit_lens
from tokenscope.explain.target import Target, ask


def test_last_row_is_the_models_own_output(internals: Internals) -> None:
    asked = ask(internals, IDS, Target(12, 3, 8))
    lens = logit_lens(asked)
    with torch.no_grad():
        logp = internals.logits(asked.embeds())[0].log_softmax(-1)
    assert lens.ids.shape == (len(internals.anatomy.layers) + 1, 5)
    assert lens.a[-1] == pytest.approx(float(logp[3]), abs=1e-4)
    assert lens.b[-1] == pytest.approx(float(logp[8]), abs=1e-4)
    assert lens.ids[-1, 0] == int(logp.argmax())
    assert lens.rank_a[-1] == 1 + int((logp > logp[3]).sum())


def test_rows_equal_hidden_states_through_the_head(llama: Internals) -> None:
    asked = ask(llama, IDS, Target(12, 3))
    model = llama.model
    with torch.no_grad():
        states = model(torch.tensor([IDS[:12]]), output_hidden_states=True).hidden_states
        wanted = model.lm_head(model.model.norm(states[1][:, -1])).log_softmax(-1)[0, 3]
    assert logit_lens(asked).a[1] == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("contrast", [None, 8], ids=["logit", "contrast"])
def test_components_add_up(internals: Internals, contrast: int | None) -> None:
    made = direct_logits(ask(internals, IDS, Target(12, 3, contrast)))
    assert abs(made.error) <= 1e-4
    assert abs(sum(c.value for c in made.parts) - made.total) <= 1e-4
    kinds = {c.part for c in made.parts}
    assert "other" not in kinds and {"embedding", "head", "mlp"} <= kinds
    layers = len(internals.anatomy.layers)
    assert sum(c.part == "head" for c in made.parts) == layers * internals.anatomy.heads


def test_total_is_the_real_difference(internals: Internals) -> None:
    asked = ask(internals, IDS, Target(12, 3, 8))
    made = direct_logits(asked)
    assert made.before_softcap == bool(internals.anatomy.softcap)
    if not made.before_softcap:
        assert made.total == pytest.approx(asked.value(), abs=1e-4)
    else:
        cap = internals.anatomy.softcap
        seen = internals.capture(asked.ids).logits / cap
        capped = torch.tanh(seen) * cap
        assert float(capped[3] - capped[8]) == pytest.approx(asked.value(), abs=1e-4)


def test_overtake_is_the_last_change_of_lead(llama: Internals) -> None:
    from tokenscope.explain.lens import _from_here_on

    assert _from_here_on(np.asarray([True, False, True, True])) == 2
    assert _from_here_on(np.asarray([True, False])) is None
    assert _from_here_on(np.asarray([True, True])) == 0


def test_an_unknown_norm_is_refused() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh()

    with pytest.raises(AbilityError, match="Odd"):
        freeze_norm(Odd(), torch.randn(8))
