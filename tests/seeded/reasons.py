"""Defects in explanations: attribution and the lens."""

from __future__ import annotations

from tests.seeded.defect import Defect

REASONS = (
    Defect(
        "gradient-without-input", "explain/gradients.py",
        "values = (embeds * slope).sum(-1)", "values = slope.sum(-1)",
        "input x gradient without the input",
        ("tests/explain/test_attribution.py::test_input_x_gradient_equals_captum",),
    ),
    Defect(
        "weights-of-the-wrong-interval", "explain/integrated.py",
        "shaped, weights / 2)", "shaped, weights)",
        "integrated gradients over -1..1 instead of 0..1: twice the values",
        ("tests/explain/test_integrated.py::test_a_settled_line_equals_captum",),
    ),
    Defect(
        "occlusion-by-zeros", "explain/perturb.py",
        "rows[row, list(groups[g])] = mean",
        "rows[row, list(groups[g])] = 0.0",
        "occluded tokens become zeros, not the mean embedding",
        ("tests/explain/test_attribution.py::test_occlusion_equals_captum",),
    ),
    Defect(
        "lens-without-norm", "explain/lens.py",
        "anatomy.head(anatomy.norm(h.to(dtype)[None, None]))",
        "anatomy.head(h.to(dtype)[None, None])",
        "the logit lens reads the stream without the final norm",
        ("tests/explain/test_lens.py::test_rows_equal_hidden_states_through_the_head",),
    ),
)  # fmt: skip
