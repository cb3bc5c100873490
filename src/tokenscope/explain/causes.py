"""Definitions of the numbers that interventions give; registered with all others."""

from __future__ import annotations

from tokenscope.explain.definitions import define

define(
    "patching", "patching", "Activation patching", "share",
    "(f(patched) - f(base)) / (f(source) - f(base)); one part at one token of the base run is "
    "set to its value in the source run. Denoising: base corrupt, source clean; noising: base "
    "clean, source corrupt. residual: the stream before the layer; attention, mlp: what the part "
    "returns; heads: all tokens of a head at once",
    "Meng 2022, arXiv 2202.05262; Wang 2022, arXiv 2211.00593; Heimersheim & Nanda 2024, arXiv "
    "2404.15255",
    "What is enough (denoising) need not be needed (noising). Only what differs between these two "
    "prompts is seen. Refused where f differs by less than 0.1 nats.",
)  # fmt: skip
define(
    "causal_tracing", "patching", "Causal tracing", "share",
    "mean over draws of [f(restored) - f(noised)] / mean over draws of [f(clean) - f(noised)]; "
    "noise: normal, 3 standard deviations of the embedding, on the subject's tokens",
    "Meng 2022, arXiv 2202.05262",
    "Noise is no input that the model knows, and the map depends on its size (Zhang & Nanda 2024, "
    "arXiv 2309.16042): compare with patching from a real prompt.",
)  # fmt: skip
define(
    "reference_ablation", "patching", "Ablation against a reference", "nats",
    "f(x) - f(x with the part set to: zero | own_mean, its mean over this text's positions | mean, "
    "over the reference texts, per position or overall without the first position | resample, "
    "its values on a reference text drawn at random, mean over draws)",
    "Wang 2022, arXiv 2211.00593 (mean); Chan 2022, causal scrubbing (resample)",
    "The answer depends on what is put in its place: own_mean removes only what varies within "
    "this text. Later layers may compensate (McGrath 2023, arXiv 2307.15771).",
)  # fmt: skip
define(
    "path_effect", "patching", "Path effect, head to head", "nats",
    "f(x) - f(x with the receiver's output as it is when the sender is replaced and every other "
    "attention and MLP is frozen)",
    "Wang 2022, arXiv 2211.00593; Goldowsky-Dill 2023, arXiv 2304.05969",
    "The straight line through the residual stream only: what goes through a third part is not "
    "counted.",
)  # fmt: skip
define(
    "lens_grid", "lens", "Lens at every position", "nats",
    "ln p of the actual token t under softmax(W_U Norm(h_l)) at position t - 1; KL(model || lens)",
    "nostalgebraist 2020", "As for the logit lens.",
)  # fmt: skip
define(
    "tuned_lens", "lens", "Tuned lens", "nats",
    "softmax(W_U Norm(h_l + A_l h_l + b_l)), A and b fitted to the least KL(model || lens)",
    "Belrose 2023, arXiv 2303.08112",
    "A fit to one text: its KL on text held out stands beside it. It says what can be read off by "
    "an affine map, not what the model itself reads.",
)  # fmt: skip
for _name, _title, _key in (
    ("repeat_induction", "Induction on repeats", "the token after the first copy"),
    ("repeat_previous", "Previous token on repeats", "the token before"),
    ("repeat_duplicate", "Duplicate token on repeats", "the first copy of the same token"),
):
    define(
        _name, "heads", _title, "mass",
        f"random tokens said twice: mean over the second copy's queries of the mass on {_key}; "
        "50 tokens, mean over 8 draws",
        "Olsson 2022, arXiv 2209.11895",
        "Random tokens are no text: a head may do more, or other things, on code.",
    )  # fmt: skip
define(
    "many", "many", "Mean over prompts", "as the number",
    "mean over prompts, with the 2.5 % and 97.5 % points of 2,000 bootstrap means; prompts are "
    "drawn whole, so differences between methods are paired",
    "Efron 1979",
    "For the prompts that were given, not for code at large. Failed prompts are listed, not "
    "counted.",
)  # fmt: skip
