"""Edits inside equal hooks made by hand on transformers' own model, in float64, by family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.families import FAMILIES, make
from tokenscope import edits as e
from tokenscope.backends.protocol import Feed
from tokenscope.backends.scripted import ScriptedBackend
from tokenscope.decode.appliers import prepared
from tokenscope.decode.engine import Engine
from tokenscope.decode.scene import Scene
from tokenscope.decode.vectors import SteeringVector, read_vector
from tokenscope.errors import AbilityError, InputError, MissingError, ModelError
from tokenscope.runs.generate import Settings, generate, score
from tokenscope.runs.model import Model, load
from tokenscope.trace.edits import Standing

IDS = [5, 77, 300, 12, 9, 1024, 77, 300, 41, 8]
OTHER = [9, 20, 31, 42, 53, 64, 75]
AT, LAYER, HEAD = 3, 1, 2
Hook = Callable[[torch.Tensor], torch.Tensor]


class Pair:
    """One family twice in float64: TokenScope's, and transformers' own in its eager form."""

    def __init__(self, name: str, folder: Path) -> None:
        make(name, folder)
        self.model = load(folder)
        self.model.backend.model.double()  # type: ignore[attr-defined]
        self.model.backend.compact = None  # type: ignore[attr-defined]
        made: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        self.own = made.double().eval()
        for one in (self.own, self.model.backend.model):  # type: ignore[attr-defined]
            if hasattr(one, "set_experts_implementation"):
                one.set_experts_implementation("eager")  # the grouped product knows no float64
        core = self.own.base_model
        self.blocks = core.h if hasattr(core, "h") else core.layers
        block = self.blocks[LAYER]
        self.attention = next(
            getattr(block, n) for n in ("self_attn", "attn", "attention") if hasattr(block, n)
        )
        self.out = next(
            getattr(self.attention, n) for n in ("o_proj", "c_proj", "dense")
            if hasattr(self.attention, n)
        )  # fmt: skip
        self.mlp = block.mlp

    def changed(self, *edits: Standing) -> np.ndarray:
        """(T, V) logits by a prefill and cached steps under edits."""
        model, words = self.model, self.model.vocabulary
        given = model.vocabulary.encode("x")
        around = Scene(
            model.backend, model.info, words, lambda: model.pieces, given, 99, frozenset(),
            turn=model.turn, vectors=model.vectors,
        )  # fmt: skip
        applied = prepared(edits, around)
        assert applied.inner == edits
        state, rows = model.stepper.start(), []
        for piece in (IDS[:6], *([i] for i in IDS[6:])):
            out = model.stepper.extend(Feed(state, piece, rows=1, changes=applied.changes))
            assert out.scores is not None
            rows.append(out.scores.block(0, len(piece)).numpy())  # type: ignore[union-attr]
        return np.concatenate(rows)

    def by_hand(self) -> np.ndarray:
        """(T, V) logits of one whole forward."""
        with torch.no_grad():
            return self.own(torch.tensor([IDS]), use_cache=False).logits[0].float().numpy()

    def seen(self, module: Any, ids: list[int], given: bool) -> torch.Tensor:
        """(T, width): a module's input or output over ``ids``."""
        kept: list[torch.Tensor] = []
        if given:
            handle = module.register_forward_pre_hook(
                lambda m, a, k: kept.append((a[0] if a else k["hidden_states"])[0]),
                with_kwargs=True,
            )
        else:
            handle = module.register_forward_hook(
                lambda m, a, o: kept.append((o[0] if isinstance(o, tuple) else o)[0])
            )
        with torch.no_grad():
            self.own(torch.tensor([ids]), use_cache=False)
        handle.remove()
        return kept[0]


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("changes") / request.param)


@contextmanager
def giving(module: Any, change: Hook) -> Iterator[None]:
    """A module's output (1, T, d) changed."""

    def hook(_m: Any, _a: Any, out: Any) -> Any:
        if isinstance(out, tuple):
            return (change(out[0].clone()), *out[1:])
        return change(out.clone())

    handle = module.register_forward_hook(hook)
    yield
    handle.remove()


@contextmanager
def given(module: Any, change: Hook) -> Iterator[None]:
    """A module's input (1, T, d) changed."""

    def hook(_m: Any, a: Any, k: Any) -> Any:
        if a:
            return (change(a[0].clone()), *a[1:]), k
        return a, {**k, "hidden_states": change(k["hidden_states"].clone())}

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    yield
    handle.remove()


def same(got: np.ndarray, want: np.ndarray, clean: np.ndarray) -> None:
    assert np.abs(got - want).max() <= 1e-6
    assert np.abs(want - clean).max() > 1e-3  # it changes something at all
    assert np.array_equal(want[:AT], clean[:AT])


def set_from(value: torch.Tensor, where: slice = slice(None)) -> Hook:
    def change(x: torch.Tensor) -> torch.Tensor:
        x[:, AT:, where] = value
        return x

    return change


def span(pair: Pair) -> slice:
    size = pair.out.weight.shape[0 if type(pair.out).__name__ == "Conv1D" else 1] // 4
    return slice(HEAD * size, (HEAD + 1) * size)


def test_ablation_by_zero(pair: Pair) -> None:
    clean = pair.by_hand()
    zero = torch.zeros(())
    cases = [
        (e.Ablate("head", LAYER, HEAD, at=AT), given(pair.out, set_from(zero, span(pair)))),
        (e.Ablate("attention", LAYER, at=AT), giving(pair.attention, set_from(zero))),
        (e.Ablate("mlp", LAYER, at=AT), giving(pair.mlp, set_from(zero))),
    ]
    for edit, hooks in cases:
        with hooks:
            want = pair.by_hand()
        same(pair.changed(edit), want, clean)


def test_a_layer_that_adds_nothing(pair: Pair) -> None:
    clean, kept = pair.by_hand(), []

    def skip(x: torch.Tensor) -> torch.Tensor:
        x[:, AT:] = kept.pop()[:, AT:]
        return x

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return x

    block = pair.blocks[LAYER]
    with given(block, keep), giving(block, skip):
        want = pair.by_hand()
    same(pair.changed(e.Ablate("layer", LAYER, at=AT)), want, clean)


def test_ablation_by_what_a_reference_gives(pair: Pair) -> None:
    clean, text = pair.by_hand(), "def f(x):\n    return x + 1\n"
    ids = pair.model.vocabulary.encode(text).ids.tolist()
    stood = pair.seen(pair.mlp, ids, given=False)[1:]
    with giving(pair.mlp, set_from(stood.mean(0))):
        want = pair.by_hand()
    same(pair.changed(e.Ablate("mlp", LAYER, how="mean", reference=text, at=AT)), want, clean)
    # resampled: at every position one of the reference's own, the same for the same seed
    edit = e.Ablate("mlp", LAYER, how="resample", reference=text, seed=3, at=AT)
    drawn = [int(np.random.default_rng((3, t)).integers(len(stood))) for t in range(len(IDS))]
    with giving(pair.mlp, set_from(stood[drawn[AT:]])):
        want = pair.by_hand()
    same(pair.changed(edit), want, clean)


def test_steering_adds_a_vector(pair: Pair) -> None:
    clean = pair.by_hand()
    values = np.random.default_rng(0).normal(size=32).astype(np.float32)
    vector = SteeringVector(LAYER, values, 1.0, pair.model.info.model_digest)
    pair.model.vectors[vector.digest] = vector

    def add(x: torch.Tensor) -> torch.Tensor:
        x[:, AT:8] += torch.from_numpy(values * np.float32(0.5)).double()
        return x

    with given(pair.blocks[LAYER], add):
        want = pair.by_hand()
    same(pair.changed(vector.steer(0.5, at=AT, until=8)), want, clean)


def test_a_patch_from_another_run(pair: Pair) -> None:
    clean = pair.by_hand()
    block = pair.blocks[LAYER]
    for part, module, is_input, where, head in (
        ("residual", block, True, slice(None), -1), ("mlp", pair.mlp, False, slice(None), -1),
        ("head", pair.out, True, span(pair), HEAD),
    ):  # fmt: skip
        value = pair.seen(module, OTHER, is_input)[5, where]

        def put(x: torch.Tensor, value: torch.Tensor = value, where: slice = where) -> torch.Tensor:
            x[:, AT, where] = value
            return x

        with given(module, put) if is_input else giving(module, put):
            want = pair.by_hand()
        edit = e.Patch(part, LAYER, tuple(OTHER), 5, head, at=AT)
        same(pair.changed(edit), want, clean)


@pytest.mark.parametrize("factor", [0.0, 0.25, 8.0])
def test_attention_weighed(pair: Pair, factor: float) -> None:
    """ln of the factor in the mask of transformers' own eager attention, of two layers."""
    clean, keys = pair.by_hand(), [1, 2]

    def hook(_m: Any, a: Any, k: Any) -> Any:
        mask = k["attention_mask"].expand(1, 4, len(IDS), len(IDS)).clone()
        for head in (0, HEAD):
            for t in range(AT, len(IDS)):
                mask[:, head, t, keys] += np.log(factor) if factor else -1e30
        return a, {**k, "attention_mask": mask}

    with ExitStack() as hooks:
        for block in (pair.blocks[0], pair.blocks[LAYER]):
            module = next(
                getattr(block, n) for n in ("self_attn", "attn", "attention") if hasattr(block, n)
            )
            handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            hooks.callback(handle.remove)
        want = pair.by_hand()
    edit = e.Attend(factor, ((1, 3),), layers=(0, LAYER), heads=(0, HEAD), at=AT)
    # its keys must stand among the given tokens: here all of them are fed by hand
    from tokenscope.backends.hf.changes import Weighed

    change = Weighed(
        torch.tensor(keys), factor, edit.holds, frozenset(edit.layers), edit.heads
    )  # fmt: skip
    state, rows = pair.model.stepper.start(), []
    for piece in (IDS[:6], *([i] for i in IDS[6:])):
        out = pair.model.stepper.extend(Feed(state, piece, changes=(change,)))
        assert out.scores is not None
        rows.append(out.scores.block(0, len(piece)).numpy())  # type: ignore[union-attr]
    same(np.concatenate(rows), want, clean)


def test_edits_together(pair: Pair) -> None:
    clean, zero = pair.by_hand(), torch.zeros(())
    with given(pair.out, set_from(zero, span(pair))), giving(pair.mlp, set_from(zero)):
        want = pair.by_hand()
    edits = (e.Ablate("mlp", LAYER, at=AT), e.Ablate("head", LAYER, HEAD, at=AT))
    same(pair.changed(*edits), want, clean)


# --- whole runs -----------------------------------------------------------------------------------
PROMPT = "# always return None\ndef add(a, b):\n    return"
STEERED = (e.Ablate("mlp", 2), e.Attend(0.0, region="comment"))


def test_states_made_under_edits_never_reach_a_clean_run(bundled: Model) -> None:
    alone = Model(bundled.backend)
    clean = alone.generate(PROMPT, max_new_tokens=6)
    both = Model(bundled.backend)
    steered = both.generate(PROMPT, max_new_tokens=6, edits=STEERED)
    after = both.generate(PROMPT + steered.text[len(PROMPT) :], max_new_tokens=4)
    fresh = Model(bundled.backend).generate(after.text[: len(steered.text)], max_new_tokens=4)
    assert after.ids.tolist() == fresh.ids.tolist()
    assert np.allclose(after.column("logprob")[1:], fresh.column("logprob")[1:], atol=1e-4)
    again = both.generate(PROMPT, max_new_tokens=6)
    assert again.ids.tolist() == clean.ids.tolist()
    under = both.generate(PROMPT, max_new_tokens=6, edits=STEERED)  # and a clean one not a steered
    assert under.ids.tolist() == steered.ids.tolist()
    gap = np.abs(under.column("logprob_inner") - steered.column("logprob_inner"))
    assert np.nanmax(gap) < 1e-4


def test_another_strength_reads_nothing_again(
    bundled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of edits from a token on, what stands before it is the model's own memory."""
    trace = bundled.generate(PROMPT * 8, max_new_tokens=4, attention="none")
    begin, fed = trace.n_prompt, []
    real = bundled.backend.extend_many  # type: ignore[attr-defined]

    def counted(feeds: list[Any], *rest: Any, **named: Any) -> Any:
        fed.append(sum(len(f.ids) for f in feeds))
        return real(feeds, *rest, **named)

    monkeypatch.setattr(bundled.backend, "extend_many", counted)
    vector = bundled.steering_vector(["x = 1", "yy = 2"], ["def f", "class G"], 2, keep=False)
    for edit, memories in (
        (e.Bias((5,), 1.0), 1), (e.Bias((5,), 2.0), 1), (vector.steer(1.0, at=begin - 1), 2),
        (vector.steer(3.0, at=begin - 1), 2), (e.Ablate("mlp", 1, at=begin - 1), 2),
    ):  # fmt: skip
        fed.clear()
        made = bundled.fork(trace, begin, "", max_new_tokens=4, edits=[edit], attention="none")
        assert sum(fed) <= 4 * memories, (edit, fed)
        again = bundled.replay(made)  # everything read anew
        assert again.same and max(again.columns.values()) <= 1e-5
    fed.clear()  # in force from the first token on, the whole prompt is another memory
    bundled.fork(trace, begin, "", max_new_tokens=1, edits=[vector.steer(5.0)], attention="none")
    assert sum(fed) > begin


def test_four_probabilities_of_a_token(bundled: Model) -> None:
    """The model's own by scoring the same ids; the inner one by hand; the mask's from both."""
    edits = (e.Ablate("mlp", 2), e.BanText(("b",)))
    trace = bundled.generate(PROMPT, max_new_tokens=6, temperature=0.7, seed=4, edits=edits)
    ids, n = trace.ids.tolist(), trace.n_prompt
    part = bundled.backend.model.model.layers[2].mlp  # type: ignore[attr-defined]
    own = bundled.backend.model(torch.tensor([ids])).logits[0].detach()  # type: ignore[attr-defined]
    with torch.no_grad(), giving(part, lambda x: torch.zeros_like(x)):
        inner = bundled.backend.model(torch.tensor([ids])).logits[0]  # type: ignore[attr-defined]
    banned = torch.tensor([b"b" in p for p in bundled.pieces.pieces])
    for t in range(n, len(ids)):
        a = torch.log_softmax(own[t - 1], 0)[ids[t]]
        b = torch.log_softmax(inner[t - 1], 0)[ids[t]]
        z = inner[t - 1].masked_fill(banned, -torch.inf)
        c, d = torch.log_softmax(z, 0)[ids[t]], torch.log_softmax(z / 0.7, 0)[ids[t]]
        for name, want in (("logprob", a), ("logprob_inner", b), ("logprob_masked", c),
                           ("logprob_sampled", d), ("price", c - a)):  # fmt: skip
            assert trace.column(name)[t] == pytest.approx(float(want), abs=2e-4), (name, t)
    assert bundled.replay(trace).same


def test_what_cannot_be_changed_is_refused(bundled: Model, tmp_path: Path) -> None:
    with pytest.raises(AbilityError, match="inside cannot be changed"):
        generate(Engine(ScriptedBackend()), prompt="x", settings=Settings(edits=STEERED[:1]))
    for edit, error in (
        (e.Ablate("mlp", 99), InputError), (e.Ablate("head", 0, 99), InputError),
        (e.Attend(0.0, text="nowhere"), InputError), (e.Steer("0" * 64), MissingError),
        (e.Attend(0.0, region="comment", heads=(99,)), InputError),
        (e.Patch("mlp", 1, (10**6,), 0), InputError),
    ):  # fmt: skip
        with pytest.raises(error):
            bundled.generate(PROMPT, max_new_tokens=2, edits=[edit])
    for bad in (
        {"part": "head", "layer": 1}, {"part": "mlp", "layer": 1, "head": 2},
        {"part": "mlp", "layer": 1, "how": "mean"}, {"part": "wing", "layer": 1},
    ):  # fmt: skip
        with pytest.raises(InputError):
            e.Ablate(**bad)  # type: ignore[arg-type]


def test_a_steering_vector_is_kept_and_found(
    bundled: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    made = bundled.steering_vector(["x = 1", "yy = 2"], ["def f", "class G"], 2)
    means = []
    for prompts in (("x = 1", "yy = 2"), ("def f", "class G")):
        states = [
            bundled.backend.model(  # type: ignore[attr-defined]
                torch.tensor(score(bundled, p).result().ids.tolist())[None],
                output_hidden_states=True,
            ).hidden_states[2][0, -1].detach().numpy()
            for p in prompts
        ]  # fmt: skip
        means.append(np.mean(states, axis=0))
    assert np.abs(made.values - (means[0] - means[1])).max() < 1e-4
    assert made.norm == pytest.approx(float(np.linalg.norm(means[0] - means[1])), rel=1e-4)
    path = tmp_path / "tokenscope" / "vectors" / f"{made.digest}.safetensors"
    assert read_vector(path).digest == made.digest
    bundled.vectors.clear()
    trace = bundled.generate(PROMPT, max_new_tokens=4, edits=[made.steer(1.5)])
    assert bundled.replay(trace).same
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError):
        bundled.generate(PROMPT, max_new_tokens=4, edits=[made.steer(1.5)])
