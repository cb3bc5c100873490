"""A text longer than the context, against transformers in float64, windowed by hand."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.families import make
from tokenscope.cli.pace import Pace
from tokenscope.errors import InputError
from tokenscope.runs.model import Model, load
from tokenscope.runs.windows import Windows, score, windows

CONTEXT = 256  # of the small model below: it has learnt positions, so a wrong place shows
TEXT = "".join(f"value_{i} = {i} + other[{i % 7}]\n" for i in range(60))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Model:
    model = load(make("gpt2", tmp_path_factory.mktemp("windows") / "gpt2"))
    assert model.info.context == CONTEXT
    return model


@pytest.fixture(scope="module")
def reference(small):
    """surprisal in nats of ``ids[1:]``, float64, by transformers alone."""
    hf = AutoModelForCausalLM.from_pretrained(small.path, dtype=torch.float64).eval()

    def surprisal(ids) -> np.ndarray:
        with torch.no_grad():
            logits = hf(torch.tensor([list(ids)]), attention_mask=torch.ones(1, len(ids))).logits[0]
        lost = -torch.log_softmax(logits[:-1], -1)
        return lost[torch.arange(len(ids) - 1), torch.tensor(list(ids[1:]))].numpy()

    return surprisal


def by_hand(ids: list[int], marks: int, overlap: int, surprisal) -> np.ndarray:
    """The documented windows, in the plainest form: one token list after the other."""
    out = np.full(len(ids), np.nan)
    body, size, begin = ids[marks:], CONTEXT - marks, 0
    done = 0  # tokens of the body that are scored
    while done < len(body):
        fed = ids[:marks] + body[begin : begin + size]
        lost = np.concatenate([[np.nan], surprisal(fed)])
        for j in range(done, begin + len(fed) - marks):
            out[marks + j] = lost[marks + j - begin]
        done = begin + len(fed) - marks
        begin = done - overlap
    return out


def test_a_text_that_fits_is_scored_with_its_whole_context(small, reference):
    run = score(small, TEXT[:300])
    assert not isinstance(run, Windows)
    trace = run.result()
    assert trace.column("surprisal")[1:] == pytest.approx(reference(trace.ids.tolist()), abs=2e-4)


@pytest.mark.parametrize("overlap", [None, 40])
def test_a_longer_one_in_windows_equals_windows_by_hand(small, reference, overlap):
    run = score(small, TEXT, overlap=overlap)
    assert isinstance(run, Windows)
    trace = run.result()
    assert trace.tokens.data.decode() == TEXT
    assert trace.ids.tolist() == small.vocabulary.encode(TEXT).ids.tolist()
    marks = len(trace.tokens.labels)
    size = CONTEXT - marks
    used = size // 2 if overlap is None else overlap
    wanted = by_hand(trace.ids.tolist(), marks, used, reference)
    have = trace.column("surprisal")
    assert have == pytest.approx(wanted, abs=2e-4, nan_ok=True)
    assert np.isnan(have).sum() == 1, "only the first token has nothing before it"
    mean = np.nanmean(wanted)
    assert trace.column("perplexity")[-1] == pytest.approx(math.exp(mean), rel=1e-4)
    assert trace.summary()["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    running = np.exp(np.cumsum(wanted[1:]) / np.arange(1, len(wanted)))
    assert trace.column("perplexity")[1:] == pytest.approx(running, rel=1e-3)
    assert (trace.finish, trace.origin.form, trace.n_prompt) == ("scored", "score", len(trace))
    assert (trace.origin.sampler["window"], trace.origin.sampler["overlap"]) == (CONTEXT, used)
    assert trace.alternatives is not None and trace.alternatives.ids.shape == (len(trace), 10)
    best = trace.alternatives.logprobs[1:, 0]
    assert (best >= trace.column("logprob")[1:] - 1e-5).all(), "alternatives are of their token"


def test_the_largest_overlap_gives_every_token_all_the_context_there_is(small, reference):
    start = small.vocabulary.encode(TEXT).slice(0, CONTEXT + 6)
    ids, text = start.ids.tolist(), start.data.decode()
    trace = score(small, text, overlap=CONTEXT - 2, alternatives=0).result()
    assert trace.ids.tolist() == ids
    marks = len(trace.tokens.labels)
    for t in range(CONTEXT, CONTEXT + 6):
        before = ids[:marks] + ids[marks + t + 1 - CONTEXT : t + 1]
        assert trace.column("surprisal")[t] == pytest.approx(reference(before)[-1], abs=2e-4)


def test_windows_cover_every_token_and_overlap_as_told():
    for total, size, overlap in [(10, 4, 2), (11, 4, 3), (9, 4, 1), (5, 4, 2), (4, 4, 2)]:
        found = list(windows(total, size, overlap))
        assert found[0][0] == 0 and found[-1][1] == total
        for (_, end), (begin, after) in itertools.pairwise(found):
            assert begin == end - overlap and end < after <= begin + size


def test_an_overlap_that_makes_no_sense_is_refused(small):
    for overlap in (0, CONTEXT, -1):
        with pytest.raises(InputError, match="overlap"):
            score(small, TEXT, overlap=overlap)


def test_it_tells_how_far_it_is_and_can_be_stopped(small):
    run, told = score(small, TEXT, alternatives=0), []
    run.control.progress = lambda done, total, what: told.append((done, total, what))
    first = next(iter(run))
    assert first.end == CONTEXT
    run.cancel()
    trace = run.result()
    assert trace.finish == "cancelled"
    assert len(trace) == CONTEXT
    assert told[0][1:] == (run.total, "tokens")
    assert [d for d, _, _ in told] == sorted(d for d, _, _ in told)


def test_pace_tells_rate_and_what_is_left_and_only_of_what_takes_longer():
    out, now = io.StringIO(), iter([0.0, 0.5, 2.0, 3.0, 14.0, 20.0])
    pace = Pace(out, lambda: next(now))
    for done in (0, 500, 2000, 3000, 14_000, 20_000):
        pace.told(done, 20_000, "bytes")
    assert out.getvalue().splitlines() == [
        "2,000 of 20,000 bytes · 1,000/s · 18 s left",
        "14,000 of 20,000 bytes · 1,000/s · 6 s left",
    ]
