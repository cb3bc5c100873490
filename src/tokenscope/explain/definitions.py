"""What every number of this room means: title, unit, formula, source, limits.

The page, the tables and docs/why.md all read this one registry, so that a number and its formula
cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenscope.registry import Registry


@dataclass(frozen=True, slots=True)
class Definition:
    """``limits`` says what the number does not show; ``group`` is where the page lists it."""

    name: str
    group: str
    title: str
    unit: str
    formula: str
    source: str
    limits: str


DEFINITIONS: Registry[Definition] = Registry("definition")


def define(
    name: str, group: str, title: str, unit: str, formula: str, source: str, limits: str
) -> Definition:
    """Register one definition."""
    return DEFINITIONS.add(name, Definition(name, group, title, unit, formula, source, limits))


# --- targets ----------------------------------------------------------------------------------
define(
    "target_logprob", "target", "Log probability of A", "nats", "f = ln p(A | tokens before)",
    "Shannon 1948", "A logprob moves with every other logit, so a reason for A may be a reason "
    "against all others.",
)  # fmt: skip
define(
    "target_contrast", "target", "A rather than B", "nats",
    "f = z_A - z_B = ln p(A) - ln p(B)", "Yin & Neubig 2022, arXiv 2202.10419",
    "Says nothing of third candidates.",
)  # fmt: skip
# --- attribution ------------------------------------------------------------------------------
define(
    "input_x_gradient", "attribution", "Input x gradient", "nats", "v_i = e_i . df/de_i",
    "Shrikumar 2017, arXiv 1704.02685",
    "First order: exact only where f is linear between the embedding and zero. The values need "
    "not add up to f.",
)  # fmt: skip
define(
    "integrated_gradients", "attribution", "Integrated gradients", "nats",
    "v_i = (e_i - e'_i) . mean over a in (0,1) of df/de_i at e' + a (e - e'); e' = the mean "
    "embedding, else a newline's, else e and e' are the streams after two layers",
    "Sundararajan 2017, arXiv 1703.01365; between layers: Dhamdhere 2018, arXiv 1805.12233",
    "Depends on the baseline, which is named beside it, and on a path of texts that nobody wrote. "
    "After two layers a token's stream holds some of the tokens before it. Where no path settles "
    "it is refused, with the gap of each.",
)  # fmt: skip
define(
    "completeness_gap", "attribution", "Completeness gap", "nats",
    "sum of v - [f(e) - f(e')]", "Sundararajan 2017, arXiv 1703.01365",
    "Only methods with a baseline have one. Zero is necessary for trust, not sufficient.",
)  # fmt: skip
define(
    "occlusion", "attribution", "Occlusion", "nats",
    "v_i = f(x) - f(x with token i replaced by the mean embedding)",
    "Zeiler & Fergus 2014, arXiv 1311.2901; Li 2016, arXiv 1612.08220",
    "One token at a time: two that back each other up both look unimportant. The replaced input "
    "is one the model never saw.",
)  # fmt: skip
define(
    "region_occlusion", "attribution", "Occlusion of a region", "nats",
    "v_r = f(x) - f(x with every token of region r replaced by the mean embedding)",
    "Zeiler & Fergus 2014, arXiv 1311.2901; Li 2016, arXiv 1612.08220",
    "The replaced input is one the model never saw.",
)  # fmt: skip
define(
    "attention_knockout", "attribution", "Attention knockout", "nats",
    "v_j = f(x) - f(x where the last query cannot read key j, in any layer or head)",
    "Geva 2023, arXiv 2304.14767",
    "Cuts only the direct reads of the last position; what token j gave to others stays.",
)  # fmt: skip
define(
    "attention_mean", "attribution", "Mean attention", "mass",
    "a_j = mean over layers and heads of the last query's weight on key j", "Vaswani 2017, arXiv "
    "1706.03762", "A weight is no cause (Jain & Wallace 2019, arXiv 1902.10186): see the rank "
    "agreement with knockout.",
)  # fmt: skip
define(
    "prior", "attribution", "f without the text", "nats",
    "f with every token but the start token replaced by the mean embedding",
    "own measure, after the empty input of Sundararajan 2017, arXiv 1703.01365",
    "What the model says to a text of neutral tokens, a text that it never saw; another neutral "
    "token gives another number.",
)  # fmt: skip
define(
    "share", "attribution", "Share of what the text adds", "%",
    "100 * [f(x) - f(x without the region)] / [f(x) - f without the text], f = z_A - z_B > 0",
    "Occlusion (Li 2016, arXiv 1612.08220)",
    "Shares of several regions need not add up to 100 %.",
)  # fmt: skip
define(
    "span_rank", "attribution", "Rank among spans of its length", "rank",
    "1 + how many spans of as many tokens, that do not touch this one, cost more when they are "
    "taken out (of at most 40, evenly drawn)",
    "own measure: a control for the length of the span",
    "A high rank says that the span costs most, not that it costs much.",
)  # fmt: skip
define(
    "recency", "attribution", "Recency control", "nats",
    "f(x) - f(x without the last tokens, as many as the span has)",
    "own measure: later tokens matter more whatever they say (Khandelwal 2018, arXiv 1805.04623)",
    "None where the span itself stands at the end.",
)  # fmt: skip
define(
    "rank_agreement", "attribution", "Rank agreement", "-1..1",
    "Spearman's rho and Kendall's tau-b of two columns over the same tokens",
    "Spearman 1904; Kendall 1945", "Ranks only; sizes play no part.",
)  # fmt: skip
define(
    "erasure", "attribution", "Erasure", "nats", "v_i = f(x) - f(x without token i)",
    "Li 2016, arXiv 1612.08220",
    "What follows a token moves up by one place. For models whose inside is out of reach; asked of "
    "distributions alone, so a quantised file explains itself.",
)  # fmt: skip
# --- lens -------------------------------------------------------------------------------------
define(
    "logit_lens", "lens", "Logit lens", "nats", "softmax(W_U Norm(h_l)) at the last position",
    "nostalgebraist 2020", "Early layers need not speak the output's language: read trends, not "
    "single early tokens.",
)  # fmt: skip
define(
    "overtake", "lens", "A overtakes B", "layer",
    "the first layer from which on z_A > z_B in the lens, to the end", "nostalgebraist 2020",
    "As for the logit lens.",
)  # fmt: skip
define(
    "direct_logit", "lens", "Direct logit attribution", "nats",
    "c / sigma * gamma . (W_U[A] - W_U[B]), sigma frozen at its value in this run; LayerNorm "
    "centres c first; without B: W_U[A] minus the mean row", "Elhage 2021",
    "Without B the total is z_A minus the mean logit: no logprob, and nats of nothing that the "
    "model puts out. Direct effects only: what a part does through later layers counts for "
    "those. With a final softcap it explains the logits before the cap.",
)  # fmt: skip
# --- ablation ---------------------------------------------------------------------------------
define(
    "ablation", "ablation", "Effect of ablation", "nats",
    "f(x) - f(x with the part's output replaced by zero, or by its mean over this text's own "
    "positions)",
    "own measure (Wang 2022, arXiv 2211.00593, averages over a reference set: see "
    "reference_ablation); Geva 2023, arXiv 2304.14767 (edges)",
    "Its own mean removes only what varies within this text. Later layers may compensate "
    "(McGrath 2023, arXiv 2307.15771): a small effect is no proof of "
    "no role.",
)  # fmt: skip
# --- faithfulness -----------------------------------------------------------------------------
define(
    "deletion", "faithfulness", "Deletion curve", "nats",
    "f with the top k tokens replaced by the mean embedding, k = 0..n; area under it: lower is "
    "more faithful", "Petsiuk 2018, arXiv 1806.07421; DeYoung 2020, arXiv 1911.03429",
    "Replaced inputs lie off the data; compare with the random orders beside it.",
)  # fmt: skip
define(
    "insertion", "faithfulness", "Insertion curve", "nats",
    "f with all tokens replaced but the top k, k = 0..n; area under it: higher is more faithful",
    "Petsiuk 2018, arXiv 1806.07421; DeYoung 2020, arXiv 1911.03429", "As for deletion.",
)  # fmt: skip
# of 40 prompts, 95 % intervals (docs/why.md, bench.faithfulness); shown with the curves
MEASURED = (
    "Measured on 40 prompts of the bundled model: occlusion, the default, does better than random "
    "orders and recency on both curves on 72 % [57, 85] with tokens replaced and on 80 % [68, 92] "
    "with tokens hidden. The aim was 80 %: missed, and just met"
)
define(
    "faithfulness_quantile", "faithfulness", "Share of random orders beaten", "%",
    "share of 20 random orders whose area is worse; 'points at what matters' asks for 95 % on "
    "both curves",
    "permutation test (Fisher 1935); Hooker 2019, arXiv 1806.10758 (random as the baseline)",
    "Says that the order is better than chance, not how much of f it explains. " + MEASURED + ".",
)  # fmt: skip
# --- attention heads --------------------------------------------------------------------------
define(
    "entropy", "heads", "Entropy", "nats", "mean over queries of -sum_j a_j ln a_j",
    "Clark 2019, arXiv 1906.04341",
    "A sink of an extra score (gpt-oss) takes mass that no key has.",
)  # fmt: skip
define(
    "distance", "heads", "Distance", "tokens", "mean over queries of sum_j a_j (q - j)",
    "Vig & Belinkov 2019, arXiv 1906.04284",
    "A heavy first token makes every head look far-sighted.",
)  # fmt: skip
define(
    "sink", "heads", "Sink", "mass", "mean over queries q > 0 of a_0, the first token",
    "Xiao 2023, arXiv 2309.17453", "Mass on the sink mostly means: nothing to say.",
)  # fmt: skip
define(
    "unread", "heads", "Unread", "mass", "mean over queries of 1 - sum_j a_j",
    "OpenAI gpt-oss model card 2025 (a learnt score that competes with the keys)",
    "0 wherever no such score exists.",
)  # fmt: skip
define(
    "previous", "heads", "Previous token", "mass", "mean over queries q > 0 of a_(q-1)",
    "Voita 2019, arXiv 1905.09418", "Position only; content may follow position.",
)  # fmt: skip
define(
    "itself", "heads", "Itself", "mass", "mean over queries of a_q", "Clark 2019, arXiv 1906.04341",
    "The first query can only read itself; it is left out.",
)  # fmt: skip
define(
    "identifier", "heads", "Same identifier", "mass",
    "mean over queries in an identifier seen before, of the mass on its earlier occurrences",
    "own measure, after Wan 2022, arXiv 2202.06840 (attention and code structure)",
    "By name, not by scope: two variables of one name count as one.",
)  # fmt: skip
define(
    "induction", "heads", "Induction", "mass",
    "mean over queries whose token occurred before, of the mass on tokens right after those",
    "Olsson 2022, arXiv 2209.11895 (prefix matching score)",
    "Olsson measures on repeated random tokens; here it is measured on this text.",
)  # fmt: skip
define(
    "norm_weighted", "heads", "Norm-weighted attention", "norm",
    "|a_ij f(x_j)| with f(x) = (x W_V + b_V) W_O of the head, b_V where the family has one",
    "Kobayashi 2020, arXiv 2004.10102", "A norm behind the attention (Gemma 2) is left out.",
)  # fmt: skip
define(
    "rollout", "heads", "Attention rollout", "mass",
    "A^ = (mean over heads A + I) / row sum; R_l = A^_l R_(l-1)",
    "Abnar & Zuidema 2020, arXiv 2005.00928",
    "Ignores values and MLPs. Layers without attention pass through as the identity.",
)  # fmt: skip
for _name in (
    "patching", "causal_tracing", "reference_ablation", "path_effect", "lens_grid", "tuned_lens",
    "repeat_induction", "repeat_previous", "repeat_duplicate", "many",
):  # fmt: skip
    DEFINITIONS.promise(_name, "tokenscope.explain.causes")
