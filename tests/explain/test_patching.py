"""Patching against hand-made hooks on transformers' own model, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.conftest import IDS
from tests.explain.test_internals import double, plain_logits
from tokenscope.backends.hf.internals import Internals
from tokenscope.control import Cancelled, Control
from tokenscope.errors import CapacityError, InputError
from tokenscope.explain.patching import Patching, align
from tokenscope.explain.target import Target
from tokenscope.explain.tracing import Tracing, embedding_sd

CORRUPT = [*IDS[:9], 77, *IDS[10:]]
LAST = len(IDS)


def moved(internals: Internals) -> Target:
    """The two tokens whose difference the change of the prompt moves most."""
    with torch.no_grad():
        one, two = (internals.logits(internals.embed(x))[0] for x in (IDS, CORRUPT))
    return Target(LAST, int((one - two).argmax()), int((one - two).argmin()))


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def by_hand(model: Any, kind: str, layer: int, part: Any, source: Any, base: Any, to: Any) -> Any:
    """Logits of ``base`` with one place taken from ``source``: two runs, one hook each."""
    module = {"residual": part.block, "attention": part.attention, "mlp": part.mlp}.get(
        kind, part.out
    )
    kept: list[torch.Tensor] = []

    def given(args: Any, kwargs: Any) -> torch.Tensor:
        return args[0] if args else kwargs["hidden_states"]

    def read_in(_m: Any, args: Any, kwargs: Any) -> None:
        kept.append(given(args, kwargs).clone())

    def read_out(_m: Any, _a: Any, out: Any) -> None:
        kept.append(_first(out).clone())

    def put(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        where = slice(part.head_dim, 2 * part.head_dim) if kind == "heads" else slice(None)
        x[0, to, where] = kept[0][0, to, where]
        return x

    def write_in(_m: Any, args: Any, kwargs: Any) -> Any:
        made = put(given(args, kwargs))
        return ((made, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": made})

    def write_out(_m: Any, _a: Any, out: Any) -> Any:
        made = put(_first(out))
        return (made, *out[1:]) if isinstance(out, tuple) else made

    into = kind in ("residual", "heads")
    pre = module.register_forward_pre_hook
    post = module.register_forward_hook
    handle = pre(read_in, with_kwargs=True) if into else post(read_out)
    plain_logits(model, source)
    handle.remove()
    handle = pre(write_in, with_kwargs=True) if into else post(write_out)
    made = plain_logits(model, base)
    handle.remove()
    return made


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_every_cell_equals_hand_made_hooks(
    model: Any, internals: Internals, direction: Any
) -> None:
    base, source = (CORRUPT, IDS) if direction == "denoising" else (IDS, CORRUPT)
    target = moved(internals)
    with double(model):
        job = Patching(internals, align(base, source), target, direction)
        made = job.run()
        assert made.clean == pytest.approx(
            float(target.of(plain_logits(model, IDS)[None])[0]), abs=1e-6
        )
        for kind, layer, at in (
            ("residual", 1, 9),
            ("attention", 1, 11),
            ("mlp", 0, 9),
            ("mlp", 2, 13),
        ):
            part = internals.anatomy.layers[layer]
            wanted = by_hand(model, kind, layer, part, source, base, at)
            assert (
                abs(made.values[kind][layer, at] - float(wanted[target.a] - wanted[target.b]))
                <= 2e-6
            )
        part = internals.anatomy.layers[1]
        wanted = by_hand(model, "heads", 1, part, source, base, slice(None))
        assert abs(made.values["heads"][1, 1] - float(wanted[target.a] - wanted[target.b])) <= 2e-6


def test_what_the_map_must_hold(internals: Internals) -> None:
    pair = align(CORRUPT, IDS)
    job = Patching(internals, pair, moved(internals), parts=("residual", "heads"))
    made = job.run()
    share = made.effect("residual")
    assert pair.same == 9 and np.all(share[:, :9] == 0)  # the same text: nothing to restore
    # before layer 0 the stream is the embedding: the one token that differs is all there is
    assert share[0, 9] == pytest.approx(1, abs=1e-3) and np.all(np.abs(share[0, 10:]) < 1e-4)
    assert job.cost.runs == made.cost.runs == len(share) * 5 + made.values["heads"].size
    assert made.direction == "denoising" and made.base == made.corrupt != made.clean


def test_noising_is_denoising_of_the_prompts_exchanged(llama: Internals) -> None:
    target = Target(LAST, 7, 3)
    one = Patching(llama, align(IDS, CORRUPT), target, "noising", ["mlp"]).run()
    two = Patching(llama, align(IDS, CORRUPT), target, "denoising", ["mlp"]).run()
    assert np.array_equal(one.effect("mlp"), two.effect("mlp"))
    assert (one.clean, one.corrupt) == (two.corrupt, two.clean)


def test_prompts_of_two_lengths_are_aligned_by_their_ends(llama: Internals) -> None:
    longer = [*IDS[:4], 70, 71, *IDS[5:]]
    pair = align(IDS, longer, "ends")
    assert pair.places[:5] == ((0, 0), (1, 1), (2, 2), (3, 3), (5, 6)) and pair.places[-1] == (
        13,
        14,
    )
    made = Patching(llama, pair, Target(LAST, 7, 3), parts=["residual"]).run()
    assert np.all(np.isnan(made.values["residual"][:, 4]))
    assert np.isfinite(made.values["residual"][:, 5:]).all()
    assert align(IDS, longer, [(13, 14)]).differing == ((13, 14),)


@pytest.mark.parametrize("given", [None, "start", [(0, 99)], [(0, 1), (0, 2)], [], [3]])
def test_what_cannot_be_aligned_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="align"):
        align(IDS, [*IDS, 4], given)


def test_refusals_come_before_the_cost(llama: Internals) -> None:
    told: list[str] = []
    control = Control(lambda done, total, what: told.append(what))
    with pytest.raises(InputError, match="same as"):
        Patching(llama, align(IDS, IDS), Target(LAST, 7, 3))
    pair = align(IDS, CORRUPT)
    with pytest.raises(CapacityError, match="would fit"):
        Patching(llama, pair, Target(LAST, 7, 3), limit=1000)
    with pytest.raises(InputError, match="part"):
        Patching(llama, pair, Target(LAST, 7, 3), parts=["neurons"])
    with torch.no_grad():
        logits = [llama.logits(llama.embed(x))[0] for x in (IDS, CORRUPT)]
    moved = logits[0] - logits[1]
    order = torch.argsort(moved)
    near = next(  # two tokens whose difference the change leaves alone
        (int(a), int(b)) for a, b in itertools.pairwise(order.tolist())
        if abs(float(moved[a] - moved[b])) < 0.05
    )  # fmt: skip
    with pytest.raises(InputError, match="too little"):
        Patching(llama, pair, Target(LAST, *near), control=control).run()
    assert not told
    with pytest.raises(Cancelled):
        Patching(llama, pair, Target(LAST, 7, 3), control=Control(cancelled=lambda: True)).run()


def test_causal_tracing_equals_hand_made_noise(model: Any, internals: Internals) -> None:
    subject = [9, 10]
    with double(model):
        embeds, rows = internals.embed(IDS), []
        for d in range(2):
            noise = torch.Generator().manual_seed(d)
            drawn = torch.randn(2, internals.hidden, generator=noise, dtype=torch.float64)
            rows.append(embeds.clone())
            rows[d][0, subject] += (drawn * 3.0 * embedding_sd(internals)).to(embeds)
        with torch.no_grad():
            change = internals.logits(embeds)[0] - internals.logits(torch.cat(rows)).mean(0)
        target = Target(LAST, int(change.argmax()), int(change.argmin()))
        job = Tracing(internals, IDS, target, subject, ("residual", "mlp"), draws=2, window=3)
        made, blurred = job.run(), rows[1]
        weight = internals.anatomy.embedding(torch.arange(internals.embedding_weight.shape[0]))
        wanted = float(weight.detach().double().std(correction=0))
        assert embedding_sd(internals) == pytest.approx(wanted)
        kept: dict[int, torch.Tensor] = {}

        def run(x: torch.Tensor) -> float:
            model.set_attn_implementation("eager")
            with torch.no_grad():
                out = model(inputs_embeds=x, use_cache=False).logits[0, -1]
            return float(out[target.a] - out[target.b])

        mlps = [p.mlp for p in internals.anatomy.layers[:3]]  # window 3 about layer 1
        reads = [
            m.register_forward_hook(lambda _m, _a, o, i=i: kept.__setitem__(i, _first(o).clone()))
            for i, m in enumerate(mlps)
        ]
        clean = run(embeds)
        for handle in reads:
            handle.remove()

        def put(i: int) -> Any:
            def hook(_m: Any, _a: Any, out: Any) -> Any:
                x = _first(out).clone()
                x[0, 11] = kept[i][0, 11]
                return (x, *out[1:]) if isinstance(out, tuple) else x

            return hook

        assert made.clean == pytest.approx(clean, abs=2e-6)
        assert made.corrupt[1] == pytest.approx(run(blurred), abs=2e-6)
        writes = [m.register_forward_hook(put(i)) for i, m in enumerate(mlps)]
        assert abs(made.values["mlp"][1, 1, 11] - run(blurred)) <= 2e-6
        for handle in writes:
            handle.remove()
    share, low, high = made.effect("residual")
    assert np.all(share[:, :9] == 0) and share.shape == (len(internals.anatomy.layers), LAST)
    assert np.all((low <= share + 1e-9) & (share <= high + 1e-9))
    assert made.cost.runs == 2 * 2 * len(internals.anatomy.layers) * (LAST - 9)


@pytest.mark.parametrize("bad", [{"subject": []}, {"draws": 0}, {"noise": 0.0}, {"window": 0},
                                 {"parts": ["heads"]}, {"subject": [99]}])  # fmt: skip
def test_bad_tracings_name_the_field(llama: Internals, bad: dict[str, Any]) -> None:
    options: dict[str, Any] = {"subject": [4], **bad}
    with pytest.raises(InputError, match=next(iter(bad))):
        Tracing(llama, IDS, Target(LAST, 7, 3), **options)
