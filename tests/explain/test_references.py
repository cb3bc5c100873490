"""Ablation against a reference, scores on repeated tokens, and paths, against hand-made hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.conftest import IDS
from tests.explain.test_internals import double, plain_logits
from tests.explain.test_patching import moved
from tokenscope.backends.hf.internals import Internals
from tokenscope.backends.hf.sites import Site
from tokenscope.errors import CapacityError, InputError
from tokenscope.explain.paths import Paths
from tokenscope.explain.references import Replacing, gather, sites_of
from tokenscope.explain.repeats import SCORES, repeats
from tokenscope.explain.target import Asked, Target, ask

TEXTS = [[5, 9, 44, 12, 70, 31, 8, 8, 2, 61, 17, 3, 90, 11, 6], [5, 33, 21, 60, 2, 4]]


def asked_of(internals: Internals) -> Asked:
    return ask(internals, IDS, moved(internals))


def head_inputs(model: Any, part: Any, ids: list[int]) -> torch.Tensor:
    """What goes into the output projection, (T, H * head_dim), by a hook of one's own."""
    kept: list[torch.Tensor] = []
    handle = part.out.register_forward_pre_hook(lambda _m, args: kept.append(args[0][0].clone()))
    plain_logits(model, ids)
    handle.remove()
    return kept[0]


def with_head(model: Any, part: Any, head: int, rows: Any, value: torch.Tensor) -> torch.Tensor:
    """Logits with one head's output set to ``value`` at ``rows``."""
    where = slice(head * part.head_dim, (head + 1) * part.head_dim)

    def hook(_m: Any, args: Any) -> Any:
        x = args[0].clone()
        x[0, rows, where] = value[..., where]
        return (x, *args[1:])

    handle = part.out.register_forward_pre_hook(hook)
    made = plain_logits(model, IDS)
    handle.remove()
    return made


@pytest.mark.parametrize("how", ["zero", "own_mean", "overall", "position", "resample"])
def test_replacing_equals_hand_made_hooks(model: Any, internals: Internals, how: str) -> None:
    with double(model):
        asked = asked_of(internals)
        part, site = internals.anatomy.layers[1], Site("heads", 1, 2)
        inputs = [head_inputs(model, part, t) for t in (*TEXTS, IDS)]
        n, rows = len(IDS), slice(None)
        per = "position" if how in ("position", "resample") else "overall"
        name: Any = "mean" if how in ("overall", "position") else how
        reference = None if how in ("zero", "own_mean") else gather(internals, TEXTS, name, per)  # type: ignore[arg-type]
        if how == "zero":
            value = torch.zeros_like(inputs[2])
        elif how == "own_mean":
            value = inputs[2].mean(0)
        elif how == "overall":  # the first position is neither counted nor replaced
            value, rows = torch.cat([x[1:] for x in inputs[:2]]).mean(0), slice(1, None)
        elif how == "position":  # places 0..5 are in both texts, the rest only in the longer
            value = inputs[0][:n].clone()
            value[:6] = (inputs[0][:6] + inputs[1]) / 2
        else:  # only one text is long enough to stand at the same places
            value = inputs[0][:n]
        job = Replacing(asked, name, reference, parts=[site], draws=2)
        made = job.run()[0]
        wanted = with_head(model, part, 2, rows, value)
        f = asked.value() - float(wanted[asked.target.a] - wanted[asked.target.b])
        assert abs(made.effect - f) <= 2e-6 and abs(f) > 1e-4
        assert (made.interval is not None) == (how == "resample")


def test_every_part_has_an_effect(llama: Internals) -> None:
    asked = asked_of(llama)
    job = Replacing(asked, "resample", gather(llama, TEXTS, "resample"), draws=3)
    effects = job.run()
    assert [(e.kind, e.layer, e.head) for e in effects] == [
        (s.kind, s.layer, s.head) for s in sites_of(llama, ("heads", "mlp"))
    ]
    assert all(e.interval is not None and e.interval.n == 3 for e in effects)
    assert all(e.interval.low <= e.effect <= e.interval.high for e in effects if e.interval)
    again = Replacing(asked, "resample", gather(llama, TEXTS, "resample"), draws=3).run()
    assert effects == again  # seeded
    assert job.cost.runs == 3 * len(effects)


def test_references_that_cannot_serve_are_refused(llama: Internals) -> None:
    asked = asked_of(llama)
    with pytest.raises(InputError, match="one position"):
        Replacing(ask(llama, IDS, Target(1, 7, 3)), "own_mean")
    with pytest.raises(InputError, match="longest text"):
        Replacing(asked, "mean", gather(llama, TEXTS[1:], "mean", "position"))
    with pytest.raises(InputError, match="reference: is needed"):
        Replacing(asked, "mean")
    with pytest.raises(InputError, match="two tokens"):
        gather(llama, [[4]])
    with pytest.raises(CapacityError):
        gather(llama, TEXTS, "resample", limit=1000)


def test_repeated_tokens_equal_eager_attention(model: Any, internals: Internals) -> None:
    length = 6
    made = repeats(internals, np.arange(10, 90), start=[1], length=length, draws=2, seed=3)
    ids = [1]
    for _ in range(2):
        random = np.random.default_rng((3, 1))
        ids += random.choice(np.arange(10, 90), length, replace=False).tolist()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_attentions=True, use_cache=False)
    a = torch.stack([x[0] for x in out.attentions])  # (L, H, T, T)
    q = range(1 + length, 1 + 2 * length)
    back = dict(zip(SCORES, (length - 1, 1, length), strict=True))
    for name, distance in back.items():
        wanted = torch.stack([a[:, :, i, i - distance] for i in q]).mean(0)
        assert np.abs(made.scores[name][1] - wanted.numpy()).max() <= 1e-5
    mean, low, high = made.interval("repeat_previous")
    assert (
        np.all((low <= mean) & (mean <= high)) and made.mean("repeat_previous").shape == mean.shape
    )
    logp = torch.log_softmax(out.logits[0].float(), -1)
    each = [float(logp[i, ids[i + 1]]) for i in range(2 * length)]
    gain = np.mean(each[length + 1 :]) - np.mean(each[1:length])
    assert made.gain[1] == pytest.approx(gain, abs=1e-5)


def test_repeats_refuse_what_cannot_be_drawn(llama: Internals) -> None:
    for bad in ({"length": 81}, {"length": 1}, {"draws": 0}):
        with pytest.raises(InputError, match=next(iter(bad))):
            repeats(llama, np.arange(10, 90), **bad)


def test_a_path_equals_hand_made_hooks(model: Any, internals: Internals) -> None:
    """By hand without freezing anything: what the sender no longer writes is taken off the
    stream right before the receiver's layer, whose attention then sees just that change."""
    sender, receiver = (0, 1), (2, 3)
    with double(model):
        asked = asked_of(internals)
        made = Paths(asked, "zero", heads=[sender, receiver, (2, 0)]).run()
        first, last = (internals.anatomy.layers[h[0]] for h in (sender, receiver))
        gone: list[torch.Tensor] = []

        def without(_m: Any, args: Any) -> Any:
            x = args[0].clone()
            x[..., first.head_dim : 2 * first.head_dim] = 0
            return (x, *args[1:])

        def written(run: Any) -> torch.Tensor:
            """What layer 0's attention adds to the stream, behind a norm where there is one."""
            seen: list[torch.Tensor] = []
            module = first.after_attention or first.attention
            handle = module.register_forward_hook(
                lambda _m, _a, o: seen.append((o[0] if isinstance(o, tuple) else o).clone())
            )
            run()
            handle.remove()
            return seen[0]

        before = written(lambda: plain_logits(model, IDS))
        handle = first.out.register_forward_pre_hook(without)
        after = written(lambda: plain_logits(model, IDS))
        handle.remove()
        gone.append(after - before)

        def shift(_m: Any, args: Any, kwargs: Any) -> Any:
            x = (args[0] if args else kwargs["hidden_states"]) + gone[0]
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

        handle = last.block.register_forward_pre_hook(shift, with_kwargs=True)
        heard = head_inputs(model, last, IDS)
        handle.remove()
        wanted = with_head(model, last, receiver[1], slice(None), heard)
        f = asked.value() - float(wanted[asked.target.a] - wanted[asked.target.b])
        edge = next(e for e in made.edges if (e.sender, e.receiver) == (sender, receiver))
        assert abs(edge.effect - f) <= 2e-6 and edge.moved > 1e-4
        assert {(e.sender, e.receiver) for e in made.edges} == {
            (sender, receiver),
            (sender, (2, 0)),
        }


def test_paths_take_the_largest_heads(llama: Internals) -> None:
    made = Paths(asked_of(llama), top=4).run()
    assert len(made.totals) == 4
    every = Replacing(asked_of(llama), "own_mean", kinds=("heads",)).run()
    largest = sorted(every, key=lambda e: -abs(e.effect))[:4]
    assert [(e.layer, e.head) for e in made.totals] == [(e.layer, e.head) for e in largest]
    sizes = [abs(e.effect) for e in made.edges]
    assert sizes == sorted(sizes, reverse=True)
    for bad in ([(0, 9), (1, 1)], [(1, 1)]):
        with pytest.raises(InputError, match="heads"):
            Paths(asked_of(llama), heads=bad)
