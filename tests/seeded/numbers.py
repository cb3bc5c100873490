"""Defects in the numbers themselves: metrics, and the trace that holds them."""

from __future__ import annotations

from tests.seeded.defect import Defect

_FORMULAS = ("tests/metrics/test_formulas.py",)

NUMBERS = (
    Defect(
        "entropy-in-bits", "metrics/step.py",
        "return self._reduced[2] - self._reduced[3]",
        "return (self._reduced[2] - self._reduced[3]) / 0.6931472",
        "entropy in bits under a header that says nats", _FORMULAS,
    ),
    Defect(
        "varentropy-not-centred", "metrics/step.py",
        "y.sub_(mean[:, None]).square_()", "y.square_()",
        "varentropy around the most likely token, not around the mean", _FORMULAS,
    ),
    Defect(
        "rank-from-zero-ties", "metrics/step.py",
        "np.count_nonzero(held > logit)", "np.count_nonzero(held >= logit)",
        "the rank counts the token itself and all its equals", _FORMULAS,
    ),
    Defect(
        "margin-of-logprobs", "metrics/step.py",
        "top = d.top_logp[:, :2].exp()", "top = d.top_logp[:, :2]",
        "the margin is a difference of logprobs", _FORMULAS,
    ),
    Defect(
        "ties-in-any-order", "metrics/step.py",
        "if bool(tied.any()):", "if False:",
        "equal alternatives come in whatever order topk gives", ("tests/metrics/test_measure.py",),
    ),
    Defect(
        "perplexity-counts-blanks", "metrics/series.py",
        "float(totals[-1]), int(counts[-1])", "float(totals[-1]), self.count + len(values)",
        "a token without a value makes the running perplexity smaller", _FORMULAS,
    ),
    Defect(
        "sink-counted-twice", "metrics/attention.py",
        "sink.masked_fill((where == 0).any(dim=-1), 0.0)", "sink",
        "the mass that a top row left out is too small by the first token's",
        ("tests/metrics/test_rows.py",),
    ),
    Defect(
        "rest-without-last", "trace/alternatives.py",
        "np.exp(self.logprobs.astype(np.float64)).sum(axis=1)",
        "np.exp(self.logprobs.astype(np.float64))[:, :-1].sum(axis=1)",
        "the last alternative is counted among the rest", ("tests/trace/test_trace.py",),
    ),
    Defect(
        "end-token-in-bytes", "trace/summary.py",
        "counted = np.isfinite(surprisal) & (widths > 0)", "counted = np.isfinite(surprisal)",
        "bits per byte pays for the end token, which writes no byte",
        ("tests/decode/test_truths.py::test_the_end_token_costs_no_byte",),
    ),
    Defect(
        "summary-of-the-prompt", "trace/summary.py",
        "start = trace.n_prompt if trace.n_prompt < len(trace) else 0", "start = 0",
        "the summary of a run includes its prompt", ("tests/trace/test_trace.py",),
    ),
    Defect(
        "best-quality-wins", "trace/join.py",
        "return max(a, b, key=_WORST.index)", "return min(a, b, key=_WORST.index)",
        "a joined column is called exact when half of it is a bound",
        ("tests/trace/test_join.py",),
    ),
    Defect(
        "rows-shifted", "trace/attention.py",
        "return end * (end - 1) // 2 - start * (start - 1) // 2",
        "return end * (end + 1) // 2 - start * (start + 1) // 2",
        "full rows are read from the place of the next token's",
        ("tests/decode/test_engine.py::test_attention_records", "tests/trace/test_trace.py"),
    ),
)  # fmt: skip
