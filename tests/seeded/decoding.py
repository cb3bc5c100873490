"""Defects in decoding: the sampler, the engine, what is kept and what is refused."""

from __future__ import annotations

from tests.seeded.defect import Defect

_SAMPLING = ("tests/decode/test_sampling.py",)
_BUDGET = ("tests/decode/test_budget.py",)

DECODING = (
    Defect(
        "temperature-inverted", "decode/draws.py",
        "(z - z.amax(1, keepdim=True)) / heat", "(z - z.amax(1, keepdim=True)) * heat",
        "a high temperature makes the draw sharper", _SAMPLING,
    ),
    Defect(
        "top-k-cuts-ties", "decode/draws.py",
        "z >= z.topk(max(most), dim=1)", "z > z.topk(max(most), dim=1)",
        "top-k keeps one too few, and cuts ties", _SAMPLING,
    ),
    Defect(
        "top-p-from-the-top", "decode/draws.py",
        "torch.sort(z, dim=1, descending=True, stable=True).indices.flip(1)",
        "torch.sort(z, dim=1, descending=True, stable=True).indices",
        "top-p drops the most likely tokens", _SAMPLING,
    ),
    Defect(
        "penalty-rewards-negatives", "decode/sampling.py",
        "torch.where(values > 0, values / penalty, values * penalty)", "values / penalty",
        "the repetition penalty favours seen tokens with negative logits", _SAMPLING,
    ),
    Defect(
        "same-noise-everywhere", "decode/draws.py",
        "counter=position << 64", "counter=0",
        "the same random numbers at every position", _SAMPLING,
    ),
    Defect(
        "context-off-by-one", "decode/limits.py",
        "(wanted > 0 and given >= context)", "(wanted > 0 and given > context)",
        "a full context is taken for one with room", _BUDGET,
    ),
    Defect(
        "youngest-state-evicted", "decode/prefixes.py",
        "self._kept.pop(0)", "self._kept.pop()",
        "the state that was used last goes first", _BUDGET,
    ),
    Defect(
        "edited-states-shared", "decode/prefixes.py",
        "n = _common(kept.ids, wanted) if kept.key == key else 0",
        "n = _common(kept.ids, wanted)",
        "a run takes up a state that was made under other edits", _BUDGET,
    ),
    Defect(
        "perplexity-per-window", "runs/windows.py",
        "columns[\"perplexity\"] = self._perplexity.add(columns[\"surprisal\"])", "pass",
        "the running perplexity starts again in every window", ("tests/runs/test_windows.py",),
    ),
    Defect(
        "scores-of-the-token-itself", "decode/machine.py",
        "scores.cut(0, upto - start), ids, plan.alternatives",
        "scores.cut(int(last), upto - start + int(last)), ids, plan.alternatives",
        "a prompt token is measured by the distribution that follows it",
        ("tests/decode/test_engine.py::test_score_covers_everything",
         "tests/decode/test_engine.py::test_long_prompts_go_in_chunks"),
    ),
    Defect(
        "stop-within-one-token", "decode/machine.py",
        "del self._tail[: max(0, len(self._tail) - longest + 1)]", "self._tail.clear()",
        "a stop string that is spread over two tokens is overlooked",
        ("tests/decode/test_engine.py::test_ends",),
    ),
    Defect(
        "old-draws-in-a-new-prompt", "runs/generate.py",
        "columns = {n: c for n, c in shared.columns.items() if n not in CHANGED}",
        "columns = dict(shared.columns)",
        "logprob_sampled of an old run stands in a new prompt",
        ("tests/decode/test_truths.py::test_an_old_run_leaves_nothing_of_its_own_in_a_new_prompt",
         "tests/decode/test_truths.py::test_a_prompt_that_was_once_drawn_has_no_sampled_logprob"),
    ),
)  # fmt: skip
