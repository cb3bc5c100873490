"""The process that runs llama.cpp: one model, one context, requests on stdin, answers on stdout.

llama.cpp aborts the process on what it takes for a programming error, so it never runs in ours: an
abort here costs one clear error. Started by :mod:`tokenscope.backends.gguf.client`.

**Attention.** With flash attention off, the graph has a node ``kq_soft_max-<layer>`` of float32
(kv, queries, heads); a callback copies the wanted rows out of it while the batch runs. Its columns
are *cells* of the memory, not positions. Which cell holds which position of a sequence is learnt
from the mask of the same node: what a query sees and the one before it did not is its own cell.

**Knock-out.** The mask is an input that all layers read. Before the first of them reads it the
callback is asked whether it wants that node; there a hidden key's cell is set to minus infinity.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tokenscope.backends.gguf import frames
from tokenscope.backends.gguf.capi import WrongLibrary, open_library

SOFTMAX = b"kq_soft_max-"
F32, F16 = 0, 1
NO_OP = 0  # of a tensor that nothing computes
F32_FILE = 0  # general.file_type of a file whose weights are all float32


class Refused(Exception):
    """The request cannot be done; the text says why, ``kind`` names the error's type."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Hiding:
    """Of a query: the cells of the positions before it, and which positions it may not read."""

    cells: list[int]
    keys: list[int]


@dataclass(slots=True)
class Watch:
    """What the callback is to keep of one ``llama_decode``.

    ``wanted``: batch indices of the queries whose rows are kept. ``done``: how many queries of
    the batch each layer has been through. ``masks``: which cells each query sees. ``hidden``: by
    batch index, the cells that its query may no longer see; ``changed``: where the mask lies.
    """

    wanted: list[int] = field(default_factory=list)
    on: bool = False
    first: int | None = None  # the layer that came first: its masks are read
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    rows: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    done: dict[int, int] = field(default_factory=dict)
    hidden: dict[int, Hiding] = field(default_factory=dict)
    changed: Any = None
    error: str = ""


class Engine:
    """The loaded model. Cells are tracked per sequence, in the order of positions."""

    def __init__(self, ask: dict[str, Any]) -> None:
        try:
            self.ffi, self.lib = open_library()
        except WrongLibrary as error:
            raise Refused("environment", str(error)) from None
        ffi, lib = self.ffi, self.lib
        self._quiet = ffi.callback("void(int, const char *, void *)", self._log)
        self.said = ""
        lib.llama_log_set(self._quiet, ffi.NULL)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = int(ask["gpu_layers"])
        self.model = lib.llama_model_load_from_file(str(ask["path"]).encode(), params)
        if self.model == ffi.NULL:
            raise Refused("model", f"llama.cpp cannot load it ({self.said or 'no reason given'})")
        if lib.llama_model_has_encoder(self.model):
            raise Refused("model", "has an encoder; TokenScope reads decoder-only models")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.size = int(lib.llama_vocab_n_tokens(self.vocab))
        self.trained = int(lib.llama_model_n_ctx_train(self.model))
        self.window = int(lib.llama_model_n_swa(self.model))
        self.recurrent = bool(
            lib.llama_model_is_recurrent(self.model) or lib.llama_model_is_hybrid(self.model)
        )
        # Two caches (windows) or none (recurrent layers) have cells of their own: no rows there.
        self.attention = bool(ask["attention"]) and not self.window and not self.recurrent
        self.watch = Watch()
        self._callback = ffi.callback("bool(struct ggml_tensor *, bool, void *)", self._see)
        self.batch_tokens = int(ask["batch"])
        self.context = self._context(ask)
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(self.batch_tokens, 0, 1)
        self.cells: dict[int, list[int]] = {}
        self._softmax_op: int | None = None

    def _context(self, ask: dict[str, Any]) -> Any:
        ffi, lib = self.ffi, self.lib
        params = lib.llama_context_default_params()
        params.n_ctx = int(ask["cells"])
        params.n_batch = params.n_ubatch = self.batch_tokens
        params.n_outputs_max_per_seq = params.n_outputs_max = self.batch_tokens
        params.n_seq_max = int(ask["sequences"])
        params.n_threads = params.n_threads_batch = int(ask["threads"])
        params.kv_unified = True
        params.swa_full = True  # forks and going back need what a window has left behind
        if self.attention:
            params.flash_attn_type = 0
            params.cb_eval = ffi.cast("void *", self._callback)
        if self._meta("general.file_type") == str(F32_FILE):
            params.type_k = params.type_v = F32
        context = lib.llama_init_from_model(self.model, params)
        if context == ffi.NULL:
            raise Refused("capacity", f"no room for its context ({self.said or 'no reason given'})")
        return context

    def _log(self, level: int, text: Any, _user: Any) -> None:
        if level >= 3:  # warnings and errors: the last one explains a failure
            line = self.ffi.string(text).decode("utf-8", "replace").strip()
            if line:
                self.said = line[:200]

    def _meta(self, key: str) -> str:
        held = self.ffi.new("char[]", 4096)
        n = self.lib.llama_model_meta_val_str(self.model, key.encode(), held, 4096)
        return self.ffi.string(held).decode("utf-8", "replace") if n >= 0 else ""

    # --- what is known of it -----------------------------------------------------------------
    def describe(self) -> tuple[dict[str, Any], bytes]:
        """Facts, and the bytes of every token end to end."""
        ffi, lib, v = self.ffi, self.lib, self.vocab
        held = ffi.new("char[]", 256)
        lib.llama_model_desc(self.model, held, 256)
        pieces = [self._piece(i) for i in range(self.size)]
        controls = [i for i in range(self.size) if lib.llama_vocab_is_control(v, i)]
        template = lib.llama_model_chat_template(self.model, ffi.NULL)
        text = lambda i: ffi.string(lib.llama_vocab_get_text(v, i)).decode("utf-8", "replace")
        return {
            "description": ffi.string(held).decode("utf-8", "replace"),
            "name": self._meta("general.name"), "architecture": self._meta("general.architecture"),
            "licence": self._meta("general.license"),
            "parameters": int(lib.llama_model_n_params(self.model)),
            "layers": int(lib.llama_model_n_layer(self.model)),
            "heads": int(lib.llama_model_n_head(self.model)),
            "kv_heads": int(lib.llama_model_n_head_kv(self.model)),
            "hidden": int(lib.llama_model_n_embd(self.model)), "vocab": self.size,
            "context": self.trained, "attention": self.attention, "window": self.window,
            "recurrent": self.recurrent, "file_type": self._meta("general.file_type"),
            "stops": [i for i in range(self.size) if lib.llama_vocab_is_eog(v, i)],
            "specials": {str(i): text(i) for i in controls},
            "bos": int(lib.llama_vocab_bos(v)), "adds_bos": bool(lib.llama_vocab_get_add_bos(v)),
            "eos": int(lib.llama_vocab_eos(v)),
            "infill": [int(f(v)) for f in (
                lib.llama_vocab_fim_pre, lib.llama_vocab_fim_suf, lib.llama_vocab_fim_mid
            )],
            "template": ffi.string(template).decode("utf-8", "replace")
            if template != ffi.NULL else "",
            "sizes": [len(p) for p in pieces],
        }, b"".join(pieces)  # fmt: skip

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            held = self.ffi.new("char[]", size)
            n = self.lib.llama_token_to_piece(self.vocab, token, held, size, 0, False)
            if n >= 0:
                return bytes(self.ffi.buffer(held, n))
            size = -n

    def tokenize(self, text: bytes, specials: bool) -> list[int]:
        """Ids of UTF-8 text; with ``specials`` the literals of special tokens become tokens."""
        size = len(text) + 16
        held = self.ffi.new("int32_t[]", size)
        n = self.lib.llama_tokenize(self.vocab, text, len(text), held, size, False, specials)
        if n < 0:
            raise Refused("input", "the text cannot be tokenised")
        return list(held[0:n])

    # --- feeding -----------------------------------------------------------------------------
    def extend(self, feeds: list[dict[str, Any]]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """Feed ids to sequences; arrays: logits of the wanted positions, then rows per layer.

        A feed is ``{seq, start, ids, scores, rows, hidden}``. Feeds are packed into batches of at
        most ``batch_tokens``; a feed that is longer goes through in parts.
        """
        logits: list[list[NDArray[np.float32]]] = [[] for _ in feeds]
        rows: list[list[list[NDArray[np.float32]]]] = [[] for _ in feeds]
        for part in self._batches(feeds):
            self._decode(feeds, part, logits, rows)
        arrays: list[NDArray[Any]] = []
        layout = []
        for i, feed in enumerate(feeds):
            has = bool(rows[i])
            layout.append({"scores": int(feed["scores"]), "layers": len(rows[i][0]) if has else 0})
            if feed["scores"]:
                arrays.append(np.stack(logits[i]))
            if has:
                total = int(feed["start"]) + len(feed["ids"])
                arrays.extend(_padded([r[layer] for r in rows[i]], total)
                              for layer in range(len(rows[i][0])))  # fmt: skip
        return {"layout": layout}, arrays

    def _batches(self, feeds: list[dict[str, Any]]) -> list[list[tuple[int, int, int]]]:
        """(feed, from, to) in batches. Feeds that want rows of several queries go alone."""
        out: list[list[tuple[int, int, int]]] = [[]]
        used = 0
        for i, feed in enumerate(feeds):
            at, n = 0, len(feed["ids"])
            while at < n:
                if used == self.batch_tokens:
                    out.append([])
                    used = 0
                take = min(n - at, self.batch_tokens - used)
                out[-1].append((i, at, at + take))
                used += take
                at += take
        return [b for b in out if b]

    def _decode(
        self, feeds: list[dict[str, Any]], part: list[tuple[int, int, int]],
        logits: list[list[NDArray[np.float32]]], rows: list[list[list[NDArray[np.float32]]]],
    ) -> None:  # fmt: skip
        batch = self.batch
        wanted: list[tuple[int, int]] = []  # (index in the batch, feed): logits
        queries: list[tuple[int, int, int]] = []  # (index, feed, position): every token
        looked: list[int] = []
        hidden: dict[int, Hiding] = {}
        n = 0
        for i, start, end in part:
            feed = feeds[i]
            ids, total = feed["ids"], len(feed["ids"])
            for j in range(start, end):
                batch.token[n], batch.pos[n] = ids[j], feed["start"] + j
                batch.n_seq_id[n], batch.seq_id[n][0] = 1, feed["seq"]
                batch.logits[n] = j >= total - feed["scores"]
                if batch.logits[n]:
                    wanted.append((n, i))
                queries.append((n, i, feed["start"] + j))
                if j >= total - feed["rows"]:
                    looked.append(n)
                if keys := feed.get("hidden"):
                    hidden[n] = Hiding(self.cells.get(int(feed["seq"]), []), keys)
                n += 1
        batch.n_tokens = n
        self.watch = Watch(looked, on=self.attention, hidden=hidden)
        code = self.lib.llama_decode(self.context, batch)
        if code == 1:
            raise Refused("full", "no free cells in the memory")
        if code != 0:
            raise Refused("model", f"llama.cpp failed with {code} ({self.said})")
        if self.watch.error:
            raise Refused("model", self.watch.error)
        for index, i in wanted:
            held = self.lib.llama_get_logits_ith(self.context, index)
            if held == self.ffi.NULL:
                raise Refused("model", "llama.cpp gave no distribution where one was asked for")
            data = self.ffi.buffer(held, self.size * 4)
            logits[i].append(np.frombuffer(data, np.float32).copy())
        if self.attention:
            self._place(feeds, queries)
            self._gather(feeds, queries, rows)

    def _place(self, feeds: list[dict[str, Any]], queries: list[tuple[int, int, int]]) -> None:
        """Learn the cell of every new token from the masks."""
        masks = np.concatenate(self.watch.masks) if self.watch.masks else np.zeros((0, 0), bool)
        if len(masks) != len(queries):
            raise Refused("model", f"{len(masks)} masks came for {len(queries)} tokens")
        for (_, i, position), seen in zip(queries, masks, strict=True):
            cells = self.cells.setdefault(int(feeds[i]["seq"]), [])
            visible = seen.copy()
            visible[cells[:position]] = False
            new = np.flatnonzero(visible)
            if len(cells) != position or len(new) != 1 or not seen[cells].all():
                raise Refused("model", "the cells of the memory cannot be told apart")
            cells.append(int(new[0]))

    def _gather(
        self, feeds: list[dict[str, Any]], queries: list[tuple[int, int, int]],
        rows: list[list[list[NDArray[np.float32]]]],
    ) -> None:  # fmt: skip
        layers = sorted(self.watch.rows)
        for k, index in enumerate(self.watch.wanted):
            _, i, position = queries[index]
            cells = self.cells[int(feeds[i]["seq"])][: position + 1]
            rows[i].append([self.watch.rows[layer][k][:, cells] for layer in layers])

    def _see(self, tensor: Any, ask: bool, _user: Any) -> bool:
        """The callback: keep the wanted rows of every layer, and the mask once."""
        try:
            if not self.watch.on:
                return not ask
            if self._softmax_op is not None and tensor.op != self._softmax_op:
                return not ask
            name = self.ffi.string(tensor.name)
            if not name.startswith(SOFTMAX):
                return not ask
            self._softmax_op = tensor.op
            if ask and self.watch.hidden:
                self._hide(tensor, int(name[len(SOFTMAX) :]))
            if not ask:
                self._keep(tensor, int(name[len(SOFTMAX) :]))
        except Exception as error:  # noqa: BLE001 (cffi swallows what a callback raises)
            self.watch.error = f"attention cannot be read ({type(error).__name__}: {error})"
        return True

    def _keep(self, tensor: Any, layer: int) -> None:
        kv, count, heads, streams = (int(tensor.ne[d]) for d in range(4))
        if streams != 1 or tensor.type != F32:
            self.watch.error = "attention has a layout that is not known"
            return
        watch = self.watch
        first = watch.done.get(layer, 0)
        watch.done[layer] = first + count
        if watch.first is None:
            watch.first = layer
        if layer == watch.first and not watch.hidden:  # else it was read before it was changed
            watch.masks.append(self._mask(tensor.src[1], kv, count))
        data = np.frombuffer(self.ffi.buffer(tensor.data, kv * count * heads * 4), np.float32)
        block = data.reshape(heads, count, kv)
        held = watch.rows.setdefault(layer, [])
        held += [block[:, q - first].copy() for q in watch.wanted if first <= q < first + count]

    def _mask(self, mask: Any, kv: int, count: int) -> NDArray[np.bool_]:
        seen: NDArray[np.bool_] = np.isfinite(self._raw_mask(mask, count)[:, :kv])
        return seen

    def _raw_mask(self, mask: Any, count: int) -> NDArray[Any]:
        """What is added to the scores, (queries, cells and more); writing there changes it."""
        kind: Any = {F32: np.float32, F16: np.float16}[int(mask.type)]
        stride = int(mask.nb[1])
        return np.frombuffer(self.ffi.buffer(mask.data, stride * count), kind).reshape(count, -1)

    def _hide(self, tensor: Any, layer: int) -> None:
        """Before the first layer reads the mask: keep what it says, then change it."""
        watch, mask = self.watch, tensor.src[1]
        if watch.changed is not None:
            if mask.data != watch.changed:
                watch.error = "the layers do not share one mask: no key can be hidden"
            return
        kv, count = int(tensor.ne[0]), int(tensor.ne[1])
        if mask.op != NO_OP or count <= max(watch.hidden):
            watch.error = "the mask is not an input: no key can be hidden"
            return
        watch.first, watch.changed = layer, mask.data
        watch.masks.append(self._mask(mask, kv, count))
        raw = self._raw_mask(mask, count)
        for index, hiding in watch.hidden.items():
            own = watch.masks[0][index].copy()
            own[hiding.cells] = False  # what is left is the query's own cell
            cells = [*hiding.cells, *np.flatnonzero(own)]
            raw[index, [cells[key] for key in hiding.keys]] = -np.inf

    # --- sequences ---------------------------------------------------------------------------
    def copy(self, source: int, target: int, length: int) -> None:
        """``target`` becomes the first ``length`` positions of ``source``; cells are shared."""
        self.drop(target)
        self.lib.llama_memory_seq_cp(self.memory, source, target, 0, length)
        self.cells[target] = self.cells.get(source, [])[:length]

    def cut(self, seq: int, length: int) -> None:
        """Forget the positions from ``length`` on."""
        self.lib.llama_memory_seq_rm(self.memory, seq, length, -1)
        del self.cells.setdefault(seq, [])[length:]

    def drop(self, seq: int) -> None:
        """Forget a sequence; its cells are free when nobody shares them."""
        self.lib.llama_memory_seq_rm(self.memory, seq, -1, -1)
        self.cells.pop(seq, None)


def _padded(rows: list[NDArray[np.float32]], keys: int) -> NDArray[np.float32]:
    """(H, rows, keys): rows of growing length, 0 where a query sees nothing."""
    out = np.zeros((rows[0].shape[0], len(rows), keys), np.float32)
    for j, row in enumerate(rows):
        out[:, j, : row.shape[1]] = row
    return out


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until the pipe closes. The first one must be ``load``."""
    engine: Engine | None = None
    while True:
        try:
            ask, _, raw = frames.receive(source)
        except EOFError:
            return
        try:
            head: dict[str, Any] = {}
            arrays: list[NDArray[Any]] = []
            out = b""
            match ask["do"], engine:
                case "load", None:
                    engine = Engine(ask)
                    head, out = engine.describe()
                case "tokenize", Engine():
                    head = {"ids": engine.tokenize(raw, bool(ask["specials"]))}
                case "extend", Engine():
                    head, arrays = engine.extend(ask["feeds"])
                case "copy", Engine():
                    engine.copy(ask["source"], ask["target"], ask["length"])
                case "cut", Engine():
                    engine.cut(ask["sequence"], ask["length"])
                case "drop", Engine():
                    for seq in ask["sequences"]:
                        engine.drop(seq)
                case _:
                    raise Refused("internal", f"unknown request {ask['do']!r}")
        except Refused as error:
            frames.send(sink, {"error": error.kind, "text": str(error)})
        else:
            frames.send(sink, head, arrays, out)


def main() -> None:
    """The process: what llama.cpp prints goes to stderr, our frames to the old stdout."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, sink)
    sink.flush()
    os._exit(0)  # the library's own clean-up may crash


if __name__ == "__main__":
    main()
