"""The definitions as Markdown: what docs/why.md holds between its marks.

``python -m tokenscope.explain.reference`` prints it; a test compares it with the page.
"""

from __future__ import annotations

from tokenscope.explain.definitions import DEFINITIONS

GROUPS = {
    "target": "What is explained",
    "attribution": "Attribution",
    "lens": "Lens",
    "ablation": "Ablation",
    "faithfulness": "Faithfulness",
    "heads": "Attention heads",
    "patching": "Patching and paths",
    "many": "Many prompts",
}


def markdown() -> str:
    """One table per group; a bar in a formula is escaped so that it ends no cell."""
    out: list[str] = []
    for group, title in GROUPS.items():
        out += [f"### {title}", "", "| number | formula | unit | source | what it does not show |"]
        out.append("|---|---|---|---|---|")
        for name, d in DEFINITIONS:
            if d.group == group:
                formula = d.formula.replace("|", "\\|")
                row = f"| {d.title} (`{name}`) | {formula} | {d.unit} | {d.source} | {d.limits} |"
                out.append(row)
        out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    print(markdown())
