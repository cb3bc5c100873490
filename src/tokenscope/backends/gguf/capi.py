"""The little of llama.cpp's C API that is used, for exactly one build of it.

The package ``xllamacpp`` carries llama.cpp as a shared object that exports the whole C API. The
structures below are those of build b11549; :func:`open_library` refuses any other version, and
compares the defaults that the library fills in with those that build is known to have, so that a
shifted field is found before a model is loaded. Runs in the worker process only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

VERSION = "2026.10.11549"
MISSING = 'GGUF files need the extra "gguf": pip install "tokenscope[gguf]"'

CDEF = """
struct llama_model_params {
  void *devices; const void *tensor_buft_overrides;
  int32_t n_gpu_layers; int32_t split_mode; int32_t unused; int32_t load_mode; int32_t main_gpu;
  const float *tensor_split; void *progress_callback; void *progress_callback_user_data;
  const void *kv_overrides;
  bool vocab_only, check_tensors, use_extra_bufts, no_host, no_alloc, load_mtp; uint8_t pad[10];
};
struct llama_context_params {
  uint32_t n_ctx, n_batch, n_ubatch, n_seq_max, n_rs_seq, n_outputs_max, n_outputs_max_per_seq;
  int32_t n_threads, n_threads_batch;
  int32_t ctx_type, rope_scaling_type, pooling_type, attention_type, flash_attn_type;
  float rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast,
        yarn_beta_slow;
  uint32_t yarn_orig_ctx; float defrag_thold;
  void *cb_eval; void *cb_eval_user_data; int32_t type_k, type_v;
  void *abort_callback; void *abort_callback_data; void *unused;
  bool embeddings, offload_kqv, no_perf, op_offload, swa_full, kv_unified;
  void *samplers; size_t n_samplers; void *ctx_other;
};
struct llama_batch {
  int32_t n_tokens; int32_t *token; float *embd; int32_t *pos; int32_t *n_seq_id;
  int32_t **seq_id; int8_t *logits;
};
struct ggml_tensor {
  int32_t type; void *buffer; int64_t ne[4]; size_t nb[4]; int32_t op; int32_t op_params[16];
  int32_t flags; struct ggml_tensor *src[10]; struct ggml_tensor *view_src; size_t view_offs;
  void *data; char name[64]; void *extra; char padding[8];
};
typedef struct llama_model llama_model; typedef struct llama_context llama_context;
typedef struct llama_vocab llama_vocab;
void llama_backend_init(void);
void llama_log_set(void *callback, void *user);
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
llama_model *llama_model_load_from_file(const char *path, struct llama_model_params params);
llama_context *llama_init_from_model(llama_model *model, struct llama_context_params params);
const llama_vocab *llama_model_get_vocab(const llama_model *model);
int32_t llama_model_n_ctx_train(const llama_model *model);
int32_t llama_model_n_embd(const llama_model *model);
int32_t llama_model_n_layer(const llama_model *model);
int32_t llama_model_n_head(const llama_model *model);
int32_t llama_model_n_head_kv(const llama_model *model);
int32_t llama_model_n_swa(const llama_model *model);
uint64_t llama_model_n_params(const llama_model *model);
uint64_t llama_model_size(const llama_model *model);
bool llama_model_is_recurrent(const llama_model *model);
bool llama_model_is_hybrid(const llama_model *model);
bool llama_model_has_encoder(const llama_model *model);
int32_t llama_model_desc(const llama_model *model, char *buf, size_t size);
int32_t llama_model_meta_val_str(const llama_model *model, const char *key, char *buf, size_t n);
const char *llama_model_chat_template(const llama_model *model, const char *name);
int32_t llama_vocab_n_tokens(const llama_vocab *vocab);
bool llama_vocab_is_eog(const llama_vocab *vocab, int32_t token);
bool llama_vocab_is_control(const llama_vocab *vocab, int32_t token);
const char *llama_vocab_get_text(const llama_vocab *vocab, int32_t token);
int32_t llama_vocab_bos(const llama_vocab *vocab);
int32_t llama_vocab_eos(const llama_vocab *vocab);
bool llama_vocab_get_add_bos(const llama_vocab *vocab);
int32_t llama_vocab_fim_pre(const llama_vocab *vocab);
int32_t llama_vocab_fim_suf(const llama_vocab *vocab);
int32_t llama_vocab_fim_mid(const llama_vocab *vocab);
int32_t llama_tokenize(const llama_vocab *vocab, const char *text, int32_t size, int32_t *tokens,
                       int32_t most, bool add_special, bool parse_special);
int32_t llama_token_to_piece(const llama_vocab *vocab, int32_t token, char *buf, int32_t size,
                             int32_t lstrip, bool special);
struct llama_batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
int32_t llama_decode(llama_context *ctx, struct llama_batch batch);
float *llama_get_logits_ith(llama_context *ctx, int32_t i);
void *llama_get_memory(const llama_context *ctx);
void llama_memory_clear(void *mem, bool data);
bool llama_memory_seq_rm(void *mem, int32_t seq, int32_t p0, int32_t p1);
void llama_memory_seq_cp(void *mem, int32_t src, int32_t dst, int32_t p0, int32_t p1);
"""
# What build b11549 puts into its default parameters: the canary.
MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": 1, "use_extra_bufts": True}
CONTEXT_DEFAULTS = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_threads": 4,
    "flash_attn_type": -1, "yarn_beta_slow": -1.0, "defrag_thold": -1.0, "type_k": 1, "type_v": 1,
    "embeddings": False, "offload_kqv": True, "no_perf": True, "kv_unified": False,
    "n_samplers": 0,
}  # fmt: skip


class WrongLibrary(Exception):
    """The library is missing, of another build, or laid out otherwise; the text says which."""


def open_library() -> tuple[Any, Any]:
    """(ffi, lib). Raises WrongLibrary."""
    try:
        from cffi import FFI
    except ImportError:
        raise WrongLibrary(MISSING) from None
    found = util.find_spec("xllamacpp")
    if found is None or found.origin is None:
        raise WrongLibrary(MISSING)
    version = metadata.version("xllamacpp")
    if version != VERSION:
        raise WrongLibrary(f"xllamacpp {version} is installed; this version reads {VERSION} only")
    files = list(Path(found.origin).parent.glob("xllamacpp.*.so"))
    if not files:
        raise WrongLibrary("xllamacpp has no shared object on this platform; GGUF needs Linux")
    ffi = FFI()
    ffi.cdef(CDEF)
    try:
        lib = ffi.dlopen(str(files[0]))
    except OSError as error:
        raise WrongLibrary(f"xllamacpp cannot be opened ({str(error)[:150]})") from None
    _canary(lib.llama_model_default_params(), MODEL_DEFAULTS)
    _canary(lib.llama_context_default_params(), CONTEXT_DEFAULTS)
    return ffi, lib


def _canary(params: Any, wanted: Mapping[str, float]) -> None:
    for name, value in wanted.items():
        held = getattr(params, name)
        if not math.isclose(float(held), float(value)):
            raise WrongLibrary(
                f"xllamacpp's {name} is {held}, not {value}: its structures have changed"
            )
