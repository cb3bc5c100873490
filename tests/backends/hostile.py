"""Hostile model folders: a small good one, damaged in one way each.

``CASES`` maps a name to a function that damages a copy. What loading one must do is the same for
all: an error of ours that names the file, or a model that works; never a raw exception, a hang,
a dead process or a gigabyte. ``bench/hostile_models.py`` tries them all, the suite a sample.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from tests.families import COMMON, randomise, save_folder

Damage = Callable[[Path], object]
CASES: dict[str, Damage] = {}
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
WEIGHTS, CONFIG, WORDS, SETTINGS = (
    "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"
)  # fmt: skip


def good(folder: Path) -> Path:
    """The folder that all cases start from: two layers of Llama and the bundled tokenizer."""
    torch.manual_seed(1)
    config = hf.LlamaConfig(
        **{**COMMON, "num_hidden_layers": 2}, intermediate_size=48, num_key_value_heads=2
    )
    return save_folder(randomise(hf.LlamaForCausalLM(config)), folder)


def build(name: str, base: Path, folder: Path) -> Path:
    """A damaged copy of ``base``."""
    shutil.copytree(base, folder)
    CASES[name](folder)
    return folder


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    """Edit a JSON file; what ``edit`` returns (if anything) replaces it."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    out = edit(value)
    path.write_text(json.dumps(value if out is None else out))


def add(name: str, damage: Damage) -> None:
    assert name not in CASES, name
    CASES[name] = damage


def setting(file: str, name: str, *values: Any) -> None:
    """One case per value of one key of one JSON file."""
    for value in values:
        shown = json.dumps(value)[:40]
        add(f"{file}: {name} = {shown}",
            lambda f, v=value: change(f / file, lambda c: c.__setitem__(name, v)))  # fmt: skip


def tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    def damage(folder: Path) -> None:
        held = load_file(folder / WEIGHTS)
        edit(held)
        save_file(held, folder / WEIGHTS, {"format": "pt"})

    add(f"weights: {name}", damage)


def header(name: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the header of the weight file, whatever it then says of the data."""

    def damage(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        table = json.loads(data[8 : 8 + length])
        out = edit(table)
        raw = json.dumps(table if out is None else out).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])

    add(f"header: {name}", damage)


def words(name: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    add(f"tokenizer: {name}", lambda f: change(f / WORDS, edit))


def template(name: str, text: str) -> None:
    add(f"template: {name}", lambda f: (f / "chat_template.jinja").write_text(text))


def raw(name: str, file: str, data: bytes) -> None:
    add(f"{file}: {name}", lambda f: (f / file).write_bytes(data))


# --- config ------------------------------------------------------------------------------------
BAD = (0, -1, 3, 10**9, 2**63, 1.5, "x", None, [], True)
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
)  # fmt: skip
for key in SIZES:
    setting(CONFIG, key, *BAD)
setting(CONFIG, "num_hidden_layers", 1, 2000, 10**18)
setting(CONFIG, "max_position_embeddings", 10**12)
setting(CONFIG, "eos_token_id", -5, 10**9, "x", [1, "x"], 2**70, [[0]])
setting(CONFIG, "bos_token_id", -5, 10**9, "x", {})
setting(CONFIG, "pad_token_id", -5, 10**9, "x")
setting(CONFIG, "rms_norm_eps", -1.0, "x", 1e300, float("nan"), None)
setting(CONFIG, "hidden_act", "nonesuch", 5, None, "__import__")
setting(CONFIG, "rope_parameters", 5, [], {"rope_type": "nonesuch"},
        {"rope_type": "default", "rope_theta": 0}, {"rope_type": "yarn", "factor": 1e300},
        {"rope_type": "longrope", "long_factor": [1] * 10**5})  # fmt: skip
setting(CONFIG, "dtype", "nonesuch", 5, "float8_e4m3fn", "int8")
setting(CONFIG, "architectures", 5, ["../x"], [5], ["GPT2LMHeadModel"], {}, "LlamaForCausalLM")
setting(CONFIG, "model_type", "", 5, "gpt2", "mamba", "bert", "t5", "vit", "../../x", "whisper",
        "qwen2_moe", "gemma3", "nonesuch", "clip", "llava", "rwkv", "encoder-decoder")  # fmt: skip
setting(CONFIG, "is_encoder_decoder", True, "yes", 1)
setting(CONFIG, "quantization_config", 5, {}, {"quant_method": "nonesuch"}, {"quant_method": []},
        {"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "fp8"}, {"load_in_8bit": True})  # fmt: skip
setting(CONFIG, "auto_map", {"AutoModelForCausalLM": "evil.Model"}, {"AutoConfig": "evil--x.Y"}, 5)
setting(CONFIG, "layer_types", [], ["full_attention"] * 10**5, 5, ["nonesuch"])
setting(CONFIG, "text_config", 5, {"num_hidden_layers": 10**9}, [])
setting(CONFIG, "attn_implementation", "nonesuch", 5)
setting(CONFIG, "tie_word_embeddings", "x", True)
setting(CONFIG, "_name_or_path", 5, "../../etc")
setting(CONFIG, "id2label", {str(n): "x" for n in range(10**5)}, 5)
setting(CONFIG, "num_labels", 10**9)
MIXTRAL = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 10**9,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 10**6, "n_layer": 2,
}  # fmt: skip
add("config: experts without end", lambda f: change(f / CONFIG, lambda c: c.update(MIXTRAL)))
add("config: a mask of 10^12", lambda f: change(f / CONFIG, lambda c: c.update(GPT2)))
raw("empty", CONFIG, b"")
raw("no object", CONFIG, b"[1, 2]")
raw("nested", CONFIG, b'{"a":' * 100_000)
raw("not UTF-8", CONFIG, b'{"model_type": "\xff\xfe"}')
raw("long number", CONFIG, b'{"model_type": "llama", "vocab_size": ' + b"9" * 10_000 + b"}")
raw("NUL bytes", CONFIG, b"\0" * 1000)

# --- weights -----------------------------------------------------------------------------------
DOWN = "model.layers.1.mlp.down_proj.weight"
tensors("one missing", lambda t: t.pop(DOWN))
tensors("all missing", lambda t: t.clear())
tensors("a whole layer missing", lambda t: [t.pop(n) for n in list(t) if ".layers.1." in n])
tensors("NaN", lambda t: t[DOWN].__setitem__((0, 0), float("nan")))
tensors("infinite", lambda t: t[DOWN].__setitem__((0, 0), float("inf")))
tensors("huge", lambda t: t.update({DOWN: t[DOWN] * 1e38}))
tensors("transposed", lambda t: t.update({DOWN: t[DOWN].T.contiguous()}))
tensors("flat", lambda t: t.update({DOWN: t[DOWN].flatten()}))
tensors("empty", lambda t: t.update({DOWN: torch.zeros(0)}))
tensors("integers", lambda t: t.update({DOWN: t[DOWN].to(torch.int32)}))
tensors("bytes", lambda t: t.update({DOWN: t[DOWN].to(torch.uint8)}))
tensors("10,000 strangers", lambda t: t.update({f"x.{n}": torch.zeros(1) for n in range(10**4)}))
tensors("a layer numbered 10^8", lambda t: t.update({"model.layers.99999999.x": torch.zeros(1)}))
tensors("odd names", lambda t: t.update({"../../x": torch.zeros(1), "\u202e": torch.zeros(1)}))
tensors("fewer rows than the tokenizer", lambda t: t.update(
    {n: t[n][:100].clone() for n in ("lm_head.weight", "model.embed_tokens.weight")}))  # fmt: skip
for name, bad in {"negative": -1, "text": "4", "huge": 2**62, "float": 1.5, "none": None}.items():
    header(f"{name} dimension", lambda t, b=bad: t[DOWN].update(shape=[b, 32]))
    header(f"{name} offset", lambda t, b=bad: t[DOWN].update(data_offsets=[0, b]))
header("overlap", lambda t: t[DOWN].update(data_offsets=t[DOWN.replace("1", "0")]["data_offsets"]))
header("backwards", lambda t: t[DOWN]["data_offsets"].reverse())
header("unknown dtype", lambda t: t[DOWN].update(dtype="F7"))
header("dtype of another size", lambda t: t[DOWN].update(dtype="F16"))
header("no entry", lambda t: t.update({DOWN: None}))
header("entry is a list", lambda t: t.update({DOWN: []}))
header("a list", lambda t: [])
header("a thousand dimensions", lambda t: t[DOWN].update(shape=[1] * 1000))
raw("empty", WEIGHTS, b"")
raw("header longer than the file", WEIGHTS, struct.pack("<Q", 10**6) + b"{}")
raw("header of 2^63", WEIGHTS, struct.pack("<Q", 2**63) + b"{}")
raw("nested header", WEIGHTS, struct.pack("<Q", 200_000) + b"[" * 200_000)
add("weights: truncated", lambda f: os.truncate(f / WEIGHTS, 1000))
add("weights: sparse tail", lambda f: os.truncate(f / WEIGHTS, 10 << 30))


def indexed(name: str, index: Any) -> None:
    def damage(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))

    add(f"index: {name}", damage)


indexed("outside", {"weight_map": {DOWN: "../x.safetensors"}})
indexed("absolute", {"weight_map": {DOWN: "/etc/passwd"}})
indexed("numbers", {"weight_map": {DOWN: 5}})
indexed("empty", {"weight_map": {}})
indexed("a list", [])
indexed("missing shard", {"weight_map": {DOWN: "other.safetensors"}})
indexed("a name that is not there", {"weight_map": {"x": "part.safetensors"}})
indexed("only one name", {"weight_map": {DOWN: "part.safetensors"}})

# --- tokenizer ---------------------------------------------------------------------------------
GROW = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BACKTRACK = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
for number in (2**31, 2**32 - 1, 2**63, -1, 1.5, "x", 10**6):
    words(f"id {number}", lambda t, n=number: t["model"]["vocab"].update({"zz": n}))
    words(f"added id {number}", lambda t, n=number: t["added_tokens"][0].update(id=n))
words("colliding ids", lambda t: t["model"]["vocab"].update({"zz": 100}))
words("colliding added ids", lambda t: t["added_tokens"][1].update(id=0))
words("no vocabulary", lambda t: t["model"].update(vocab={}))
words("vocabulary is a list", lambda t: t["model"].update(vocab=[1, 2]))
words("no model", lambda t: t.pop("model"))
words("unknown model", lambda t: t["model"].update(type="Nonesuch"))
words("merge of nothing", lambda t: t["model"].update(merges=[["nope", "nope"]]))
words("merges of one", lambda t: t["model"].update(merges=[["a"]]))
words("no merges", lambda t: t["model"].update(merges=[]))
words("chain of normalisers", lambda t: t.update(
    normalizer={"type": "Sequence", "normalizers": [GROW] * 40}))  # fmt: skip
words("regex normaliser that grows", lambda t: t.update(normalizer={
    "type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10**6}))  # fmt: skip
words("normaliser that puts much before", lambda t: t.update(
    normalizer={"type": "Prepend", "prepend": "x" * 10**7}))  # fmt: skip
words("nested normalisers", lambda t: t.update(normalizer=_nested(200)))
words("deeply nested", lambda t: t.update(normalizer=_nested(400)))
words("unknown normaliser", lambda t: t.update(normalizer={"type": "Nonesuch"}))
words("broken regex", lambda t: t.update(pre_tokenizer={**BACKTRACK, "pattern": {"Regex": "(("}}))
words("backtracking", lambda t: t.update(pre_tokenizer=BACKTRACK))
words("backtracking twice", lambda t: t.update(pre_tokenizer={
    **BACKTRACK, "pattern": {"Regex": r"(.*)*(.*)*\d(.*)*$"}}))  # fmt: skip
words("10,000 pre-tokenizers", lambda t: t.update(pre_tokenizer={
    "type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * 10**4}))  # fmt: skip
words("broken charsmap", lambda t: t.update(
    normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}))  # fmt: skip
words("template of a token that is not there", lambda t: t["post_processor"].update(
    special_tokens={}))  # fmt: skip
words("template with a wild id", lambda t: t["post_processor"]["special_tokens"][
    "<|endoftext|>"].update(ids=[10**9]))  # fmt: skip
words("template of 10^5 tokens", lambda t: t["post_processor"]["single"].extend(
    t["post_processor"]["single"][:1] * 10**5))  # fmt: skip
words("drops the text", lambda t: t["post_processor"].update(
    single=[t["post_processor"]["single"][0]]))  # fmt: skip
words("truncates", lambda t: t.update(truncation={
    "direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}))  # fmt: skip
words("pads to 10^9", lambda t: t.update(padding={
    "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
    "pad_type_id": 0, "pad_token": "<|endoftext|>"}))  # fmt: skip
words("empty added token", lambda t: t["added_tokens"].append(
    {**t["added_tokens"][0], "id": 50, "content": ""}))  # fmt: skip
words("10^5 added tokens", lambda t: t["added_tokens"].extend(
    {**t["added_tokens"][0], "id": 9000 + n, "content": f"<x{n}>"}
    for n in range(10**5)))  # fmt: skip
words("dropout", lambda t: t["model"].update(dropout=0.9))
words("unknown token that is not there", lambda t: t["model"].update(unk_token="nonesuch"))
words("unigram of one", lambda t: t.update(
    model={"type": "Unigram", "unk_id": 5, "vocab": [["a", -1.0]]}))  # fmt: skip
words("unigram with NaN", lambda t: t.update(
    model={"type": "Unigram", "unk_id": 0, "vocab": [["a", None]]}))  # fmt: skip
words("words without unknown", lambda t: t.update(
    model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}))  # fmt: skip
words("no added tokens", lambda t: t.update(added_tokens=5))
raw("empty", WORDS, b"")
raw("no JSON", WORDS, b"\x80\x04K\x01.")
raw("a list", WORDS, b"[]")
raw("nested", WORDS, b'{"model":' * 100_000)
add("tokenizer: a long token", lambda f: change(
    f / WORDS, lambda t: t["model"]["vocab"].update({"z" * 10**6: 8000})))  # fmt: skip
add("tokenizer: sparse 10 GB", lambda f: os.truncate(f / WORDS, 10 << 30))


def _nested(depth: int) -> Any:
    out: Any = {"type": "Sequence", "normalizers": []}
    for _ in range(depth):
        out = {"type": "Sequence", "normalizers": [out]}
    return out


# --- what stands beside them -------------------------------------------------------------------
setting(SETTINGS, "eos_token", 5, [], {"content": 5}, "nonesuch", "x" * 10**6, {})
setting(SETTINGS, "bos_token", 5, "nonesuch", True, "\ud83d\ude42")
setting(SETTINGS, "tokenizer_class", 5, "Nonesuch", "../../x", "BertTokenizer", "ByT5Tokenizer")
setting(SETTINGS, "added_tokens_decoder", {"4294967295": {"content": "zz"}}, {"x": {}}, 5,
        {"9000": {"content": "zz", "special": True}}, {"0": 5})  # fmt: skip
setting(SETTINGS, "extra_special_tokens", 5, {"a": 5}, [f"<y{n}>" for n in range(10**4)])
setting(SETTINGS, "model_max_length", -1, "x", 10**300)
setting(SETTINGS, "auto_map", {"AutoTokenizer": ["evil.Tok", None]}, 5)
setting(SETTINGS, "chat_template", 5, [], [5], {"x": 1}, "{% if %}")
raw("no JSON", SETTINGS, b"{")
raw("a list", SETTINGS, b"[]")
raw("no JSON", "special_tokens_map.json", b"{")
raw("a list", "special_tokens_map.json", b"[1]")
raw("wild id", "added_tokens.json", b'{"zz": 4294967295}')
raw("no JSON", "generation_config.json", b"{")
setting("generation_config.json", "eos_token_id", "x", -1, 10**12, [[0]], {})
setting("generation_config.json", "temperature", "x", -1)
raw("not UTF-8", "chat_template.jinja", b"\xff\xfe")
template("loops", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
template("writes 10 MB", "{{ 'x' * 10000000 }}")
template("writes 10 GB", "{{ 'x' * 10000000000 }}")
template("doubles", "{% set ns = namespace(s='x') %}{% for i in range(40) %}"
         "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}")  # fmt: skip
template("counts", "{{ 9 ** 9 ** 9 }}")
template("recurses", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")
template("looks inside", "{{ ''.__class__.__mro__[1].__subclasses__() }}")
template("includes", "{% include '/etc/passwd' %}")
template("imports", "{% import 'os' as os %}{{ os }}")
template("is broken", "{% if %}")
template("misses", "{{ messages[5].content.x.y }}")
template("refuses", "{{ raise_exception('no') }}")
template("nests", "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")
template("is long", "{{ messages }}" * 200_000)
template("writes special tokens", "<|endoftext|>" * 50)

# --- other formats and odd files ---------------------------------------------------------------
add("a GGUF folder", lambda f: ((f / CONFIG).unlink(), (f / "m.gguf").write_bytes(b"GGUF")))
add("a LoRA adapter", lambda f: ((f / CONFIG).unlink(),
    (f / "adapter_config.json").write_text("{}")))  # fmt: skip
add("a LoRA adapter beside its base", lambda f: (f / "adapter_config.json").write_text("{}"))
add("a diffusion pipeline", lambda f: ((f / CONFIG).unlink(),
    (f / "model_index.json").write_text("{}")))  # fmt: skip
add("pickles", lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"))
add("weights of another name", lambda f: (f / WEIGHTS).rename(f / "x.safetensors"))
for file in (CONFIG, WEIGHTS, WORDS):
    add(f"without {file}", lambda f, n=file: (f / n).unlink())
    add(f"{file} is a folder", lambda f, n=file: ((f / n).unlink(), (f / n).mkdir()))
    add(f"{file} is a pipe", lambda f, n=file: ((f / n).unlink(), os.mkfifo(f / n)))
    add(f"{file} links outside", lambda f, n=file: ((f / n).unlink(),
        (f / n).symlink_to("/etc/hostname")))  # fmt: skip
    add(f"{file} links to itself", lambda f, n=file: ((f / n).unlink(), (f / n).symlink_to(n)))
    add(f"{file} links nowhere", lambda f, n=file: ((f / n).unlink(), (f / n).symlink_to("x")))
    add(f"{file} is zero without end", lambda f, n=file: ((f / n).unlink(),
        (f / n).symlink_to("/dev/zero")))  # fmt: skip
add("config.json is sparse 10 GB", lambda f: os.truncate(f / CONFIG, 10 << 30))
add("20,000 files", lambda f: [(f / f"x{n}").touch() for n in range(20_000)])
