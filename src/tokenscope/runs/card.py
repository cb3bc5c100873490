"""A loaded model as a picture: what it is, what it can do, how it is run here."""

from __future__ import annotations

from tokenscope.decode.engine import Engine
from tokenscope.pictures.paper import framed, head, safe
from tokenscope.trace.drawn import PICTURES, Picture

ABLE = {
    "steps": "decode token by token", "attention": "attention of every head",
    "infill": "infill", "chat": "chat", "internals": "gradients, lens, ablation",
}  # fmt: skip
STYLE = ".tks dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:0}" \
    ".tks dt{color:var(--quiet)}.tks dd{margin:0}"  # fmt: skip


def card(model: Engine) -> Picture:
    """Size, numerics and digests, abilities, and the notes of what was chosen at load."""
    info, abilities = model.info, model.abilities
    size = f"{info.parameters / 1e6:.1f} M parameters" if info.parameters else "size not told"
    shape = ", ".join(
        f"{value} {name}"
        for name, value in (
            ("layers", info.layers), ("heads", info.heads), ("wide", info.hidden),
            ("tokens in the vocabulary", info.vocab), ("tokens of context", info.context),
        )
        if value
    )  # fmt: skip
    can = [words for name, words in ABLE.items() if getattr(abilities, name)]
    cannot = [words for name, words in ABLE.items() if not getattr(abilities, name)]
    rows = {
        "shape": shape,
        "numerics": f"{info.dtype} on {info.device}, {info.backend}, attention by {info.kernel}",
        "in memory": f"{info.weight_bytes / 1e6:.0f} MB" if info.weight_bytes else "",
        "can": ", ".join(can),
        "cannot": ", ".join(cannot),
        "digest": f"weights {info.model_digest[:16]}, tokenizer {info.tokenizer_digest[:16]}",
        "16-bit error": ", ".join(f"{n} {v:.2g}" for n, v in info.errors.items()),
        "versions": ", ".join(f"{n} {v}" for n, v in info.versions.items()),
    }
    lines = "".join(f"<dt>{n}</dt><dd>{safe(v)}</dd>" for n, v in rows.items() if v)
    notes = "".join(f"<li>{safe(note)}</li>" for note in info.notes)
    below = f"<details><summary>{len(info.notes)} notes</summary><ul>{notes}</ul></details>"
    inside = f"{head(info.name, info.architecture, size)}<dl>{lines}</dl>{below if notes else ''}"
    return Picture(info.name, framed(inside, STYLE))


PICTURES.add("model", card)
