"""Every decoder family of transformers that loads here: what works, each cell from a run.

``python -m bench.families --json [--only llama,mamba] [--tokens 12] [--table FILE]``

For each family a tiny random model is built, saved with the bundled tokenizer, loaded as a user
loads it (probe included), decoded for a few tokens and forked in the middle. The logprobs of all
tokens, of the branch too, and the attention rows of all heads are compared with transformers' own
eager forward of the whole text (no cache, nothing of TokenScope in it). Then one token is explained
by every method and table (integrated gradients run the same forward): f(x) must be the trace's
logprob. A family that cannot be built, loaded or decoded is listed with the cause. ``--table``
writes the rows as the table of docs/models.md. Exit 1 when a number is shown that is not the
model's own, or anything fails without a plain refusal.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

# encoders, encoder-decoders, and those that need a picture or a sound
NOT_HERE = {
    "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "blenderbot",
    "blenderbot-small", "camembert", "data2vec-text", "electra", "ernie", "git", "marian", "mbart",
    "megatron-bert", "moshi", "musicgen", "musicgen_melody", "mvp", "pegasus", "plbart",
    "prophetnet", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "trocr",
    "whisper", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "reformer", "fuyu",
    "got_ocr2", "mllama", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "emu3",
    "phi4_multimodal", "moss_transcribe_diarize", "cpmant",
}  # fmt: skip
VOCAB = 8192
MOST = 20_000_000  # parameters
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6,
    "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "n_inner": 48, "rotary_dim": 8,
    "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256, "ffn_dim": 48,
    "word_embed_proj_dim": 32, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    "moe_num_experts": 4, "moe_k": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8, "lru_width": 32, "state_size": 8, "num_heads": 4,
    "mamba_d_state": 8, "mamba_d_head": 16, "mamba_n_heads": 4, "mamba_n_groups": 1,
    "mamba_d_ssm": 64, "n_groups": 1, "chunk_size": 8, "mamba_chunk_size": 8, "time_step_rank": 4,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "query_pre_attn_scalar": 8, "global_head_dim": 8,
    "intermediate_size_mlp": 48, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input":
    VOCAB, "dff": 48, "n_ctx": 256, "conv_dim": 32, "index_head_dim": 8, "index_n_heads": 2,
    "index_topk": 64, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 24,
}  # fmt: skip
# what a family's own checks ask for
OWN: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32}, "mamba2": {"head_dim": 16, "num_heads": 4},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 6,
                "num_heads": 4},
    "recurrent_gemma": {"attention_window_size": 6, "num_hidden_layers": 3},
    "falcon_mamba": {"hidden_size": 32}, "codegen": {"n_embd": 64, "n_head": 4, "rotary_dim": 8},
    "opt": {"do_layer_norm_before": True}, "dbrx": {"d_model": 32},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "rwkv": {"attention_hidden_size": 32}, "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"]},
    "qwen3_next": {"num_hidden_layers": 4}, "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_5_moe_text": {"num_hidden_layers": 4},
    "deepseek_v2": {"num_key_value_heads": 4, "head_dim": 8},
    "deepseek_v3": {"num_key_value_heads": 4, "head_dim": 8},
}  # fmt: skip


def config_of(kind: str) -> Any:
    """A tiny configuration; names that the family does not know are left out."""
    from transformers import CONFIG_MAPPING

    maker = CONFIG_MAPPING[kind]
    plain = maker()
    aliases = dict(getattr(plain, "attribute_map", {}) or {})
    names = set(vars(plain)) | set(aliases)
    given = {k: v for k, v in SMALL.items() if k in names and getattr(plain, k, None) is not None}
    given |= {k: v for k, v in SMALL.items() if k in ("vocab_size", "bos_token_id", "eos_token_id")}
    return maker(**(given | OWN.get(kind, {})))


def build(kind: str, folder: Path) -> Path:
    """A folder with a random model whose weights are large enough that nothing is uniform."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from tokenscope.backends.hf.load import BUNDLED

    torch.manual_seed(1)
    config = config_of(kind)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > MOST:
        raise ValueError(f"{size:,} parameters: one of its sizes is not known by name here")
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.is_floating_point() or "A_log" in name or "dt_bias" in name:
                continue
            if p.ndim >= 2 or "sinks" in name or name.endswith("bias"):
                p.normal_(0.0, 0.15)
            else:
                p.add_(torch.randn_like(p) * 0.1)
    disable_progress_bar()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, folder / name)
    return folder


def tell(kind: str, tokens: int) -> dict[str, Any]:
    """One family: the numbers, and what is refused and why."""
    import tokenscope as ts
    from tokenscope.control import QUIET
    from tokenscope.errors import TokenScopeError
    from tokenscope.explain.methods import METHODS
    from tokenscope.explain.tables import TABLES
    from tokenscope.runs.explain import Explaining

    out: dict[str, Any] = {"family": kind, "stage": "build", "cause": ""}
    with tempfile.TemporaryDirectory() as place:
        try:
            folder = build(kind, Path(place))
            out["stage"] = "load"
            model = ts.load(folder)
            lean = getattr(model.backend, "compact", None) is not None
            out |= {"stage": "decode", "kernel": model.info.kernel, "lean": lean,
                    "layers": model.info.layers, "forks": model.abilities.fork,
                    "attention_layers": len(model.info.attention_layers)}  # fmt: skip
            trace = model.generate(
                "def add(a, b):\n    return", max_new_tokens=tokens, attention="full"
            )
            out |= checked(model, trace, folder)
        except Exception as error:  # noqa: BLE001 (a family may fail in any way; it is listed)
            return out | {"cause": f"{type(error).__name__}: {str(error)[:160]}"}
        out["stage"] = "explain"
        at = len(trace) - 1
        recorded = float(trace.column("logprob")[at])
        refused: dict[str, str] = {}
        failed: dict[str, str] = {}
        made = 0
        try:
            job = Explaining(model, trace, at, None, "input_x_gradient", None, TABLES.names())
            why = job.attribution()
            made, out["f"] = 1, why.logprob_a
            for name in TABLES.names():
                table = job.table(why, name)
                if table.refused:
                    refused[name] = table.note
        except TokenScopeError as error:
            refused["explanation"] = str(error)
        except Exception as error:  # noqa: BLE001 (told as a failure)
            failed["explanation"] = f"{type(error).__name__}: {str(error)[:160]}"
        # integrated gradients run the same forward some hundred times: no other path to check
        for method in ("occlusion", "attention_knockout", "attention_mean") if made else ():
            try:
                METHODS.get(method).run(job.asked, QUIET)
            except TokenScopeError as error:
                refused[method] = str(error)
            except Exception as error:  # noqa: BLE001 (told as a failure)
                failed[method] = f"{type(error).__name__}: {str(error)[:160]}"
        model.close()
    out |= {"trace": recorded, "made": made, "refused": refused, "failed": failed}
    if made:
        out["difference"] = abs(out["f"] - recorded)
    return out


def checked(model: Any, trace: Any, folder: Path) -> dict[str, Any]:
    """Columns, a branch and rows against transformers' own forward of the whole text."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    out: dict[str, Any] = {"columns": worst_logprob(plain, trace)}
    at = trace.n_prompt + 3
    token = (int(trace.ids[at]) + 7) % 4000 + 50
    try:
        branch = model.fork(trace, at=at, token=token, max_new_tokens=4, attention="none")
        out["branch"] = worst_logprob(plain, branch)
    except Exception as error:  # noqa: BLE001 (listed)
        out["branch_cause"] = f"{type(error).__name__}: {str(error)[:120]}"
    if model.info.attention_layers and trace.attention is not None:
        with torch.inference_mode():
            found = plain(
                input_ids=torch.tensor([trace.ids.tolist()]), use_cache=False,
                output_attentions=True,
            ).attentions  # fmt: skip
        eager = [a[0] for a in found or () if a is not None]
        gap = 0.0
        for layer, rows in zip(model.info.attention_layers, eager, strict=False):
            for t in range(trace.n_prompt, len(trace)):
                for head in range(rows.shape[0]):
                    got = torch.tensor(trace.attention.row(layer, head, t))
                    gap = max(gap, float((got - rows[head, t - 1, :t]).abs().max()))
        out["rows"] = gap if len(eager) >= len(model.info.attention_layers) else None
    return out


def worst_logprob(plain: Any, trace: Any) -> float:
    """The largest difference of a token's logprob."""
    ids = torch.tensor([trace.ids.tolist()])
    with torch.inference_mode():
        logits = plain(input_ids=ids, use_cache=False).logits[0].float()
    want = torch.log_softmax(logits, -1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
    got = torch.tensor(trace.column("logprob")[1:])
    return float((want - got).abs().max())


def tried(row: dict[str, Any]) -> bool:
    """Whether the tiny model itself runs; one that does not says nothing of its family."""
    broken = ("its forward fails", "cannot be stepped")
    return row["stage"] != "build" and not any(b in row["cause"] for b in broken)


CELLS = "| family | loads | columns | forks | attention rows | explanations | speed path |"


def row_of(row: dict[str, Any]) -> str:
    """One family as a row of the table."""
    name = row["family"]
    if row["stage"] != "explain":
        cause = " ".join(row["cause"].split(": ", 1)[-1].split())
        cause = re.sub(r"/\S*/", "", cause).split(": ", 1)[-1]
        return f"| {name} | refused: {cause[:150]} | | | | | |"
    right = lambda gap: "exact" if gap is not None and gap <= 1e-3 else f"**off by {gap}**"
    forks = {"crop": "anywhere", "copy": "from kept states"}[row["forks"]]
    if "branch_cause" in row:
        forks = f"refused ({row['branch_cause'].split(': ', 1)[-1][:80]})"
    elif row["branch"] > 1e-3:
        forks = right(row["branch"])
    count, layers = row["attention_layers"], row["layers"]
    rows = "none to show" if not count else "exact" if (row.get("rows") or 0) <= 1e-3 else "off"
    if count and count < layers:
        rows += f", {count} of {layers} layers"
    refused = [k for k in row["refused"] if k != "explanation"]
    why = "all" if row.get("made") and not refused else "refused"
    if row.get("made") and refused:
        why = f"without {', '.join(refused)}"
    speed = "lean step" if row["lean"] else "recorder" if row["kernel"] != "eager" else "eager"
    return f"| {name} | yes | {right(row['columns'])} | {forks} | {rows} | {why} | {speed} |"


def families() -> list[str]:
    """Model types of transformers that decode text from left to right."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    return sorted(set(NAMES) - NOT_HERE)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--only", default="", help="model types, with commas between")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--table", type=Path, help="write the table of docs/models.md there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind in options.only.split(",") if options.only else families():
        row = tell(kind, options.tokens)
        rows.append(row)
        print(line(row), file=sys.stderr, flush=True)
    explained = [r for r in rows if r.get("made")]
    worst = max((r["difference"] for r in explained), default=0.0)
    broken = [r["family"] for r in rows if r.get("failed")]
    report = {
        "families": len(rows), "decoded": sum(r["stage"] == "explain" for r in rows),
        "explained": len(explained), "largest_difference": worst, "failed": broken, "rows": rows,
    }  # fmt: skip
    if options.table:
        head = f"{CELLS}\n|{'---|' * 7}\n"
        shown = [row_of(r) for r in rows if tried(r)]
        options.table.write_text(head + "\n".join(shown) + "\n")
    if options.json:
        print(json.dumps(report, indent=1))
    wrong = [r["family"] for r in rows if max(r.get(k) or 0 for k in ("columns", "branch", "rows"))
             > 1e-3]  # fmt: skip
    for name in wrong:
        print(f"{name}: a number differs from the family's own forward", file=sys.stderr)
    return 0 if worst <= 1e-3 and not broken and not wrong else 1


def line(row: dict[str, Any]) -> str:
    """One family in words."""
    if row["stage"] != "explain":
        return f"{row['family']:24} {row['stage']}: {row['cause']}"
    head = f"{row['family']:24} {row['kernel']:10} trace {row['trace']:9.4f}"
    if row.get("made"):
        head += f"  f(x) {row['f']:9.4f}  difference {row['difference']:.1e}"
    what = {**row["refused"], **{k: f"FAILED {v}" for k, v in row["failed"].items()}}
    return head + "".join(f"\n    {k}: {v}" for k, v in what.items())


if __name__ == "__main__":
    sys.exit(main())
