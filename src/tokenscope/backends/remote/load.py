"""The address of a server to a backend: what it is, and what it can do, is asked at connect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from tokenscope.backends.hf.infill import find_marks
from tokenscope.backends.protocol import Abilities, Backend, ModelInfo
from tokenscope.backends.remote import shapes
from tokenscope.backends.remote.address import ServerAddress, parse, permit
from tokenscope.backends.remote.connection import Connection, Limits
from tokenscope.backends.remote.dialects import Ollama, OpenAI
from tokenscope.backends.remote.keys import key_for
from tokenscope.backends.remote.llamacpp import CERTAIN, LlamaServer
from tokenscope.backends.remote.text_server import TextServer
from tokenscope.backends.remote.words import Seen, Table
from tokenscope.errors import AbilityError, InputError, RemoteError

MOST_VOCABULARY = 1 << 19
OWN = "it tells no ids: the numbers of tokens are ours, and a prompt it does not cut is one token"


def load(address: str, allowed: Sequence[str] = (), limits: Limits = Limits()) -> Backend:
    """Connect to a server and ask what it can do.

    ``allowed``: addresses of other machines that prompts may be sent to. Raises InputError for an
    address that is none or not allowed, RemoteError, AbilityError for a server that tells too
    little.
    """
    where = parse(address)
    permit(where, allowed)
    key = key_for(where)
    connection = Connection(where.root, key, limits)
    notes = [f"decoded by a server at {where.host}:{where.port}, which tells only the most likely "
             "tokens of a position: columns are exact where they can be, else bounds"]  # fmt: skip
    if key is not None and where.scheme == "http" and not where.loopback:
        notes.append("the key travels to it unencrypted (http)")
    try:
        props = connection.get("/props")
        if isinstance(props, dict) and "default_generation_settings" in props:
            return llamacpp(connection, where, props, notes)
        if isinstance(connection.get("/api/version"), dict):
            return ollama(connection, where, notes)
        return openai(connection, where, notes)
    except BaseException:
        connection.close()
        raise


def llamacpp(
    connection: Connection, where: ServerAddress, props: dict[str, Any], notes: Sequence[str]
) -> LlamaServer:
    """A llama.cpp server, its whole vocabulary read once."""
    about = _model(connection.get("/v1/models"), where.model)
    meta: dict[str, Any] = shapes.field(about, "meta", dict, "/v1/models")
    size = shapes.field(meta, "n_vocab", int, "/v1/models")
    table = _table(connection, size)
    settings = props["default_generation_settings"]
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    literals = {s: i for i, s in table.labels.items()}
    eos = literals.get(str(props.get("eos_token", "")))
    first = connection.post("/tokenize", {"content": "", "add_special": True})
    bos = (first.get("tokens") or [None])[0] if isinstance(first, dict) else None
    marks = find_marks(literals.get)
    kind = str(meta.get("ftype") or props.get("model_ftype") or "not told")
    info = ModelInfo(
        name=PurePath(str(about.get("id", "model"))).name[:100], path=where.root,
        architecture="not told", backend="llama.cpp server", parameters=_whole(meta, "n_params"),
        layers=None, heads=None, kv_heads=None, hidden=_whole(meta, "n_embd"), vocab=None,
        context=context if isinstance(context, int) else None, dtype=kind[:40],
        device=f"{where.host}:{where.port}", kernel="llama.cpp server",
        model_digest=_digest(meta, table.digest, props.get("chat_template")),
        tokenizer_digest=table.digest, attention_layers=(), state_bytes_per_token=0,
        notes=(*notes, *found(marks is not None, bool(props.get("chat_template")))),
        versions={"server": str(props.get("build_info", ""))[:60]},
        start_token=table.label(bos) or "" if isinstance(bos, int) else "",
    )  # fmt: skip
    abilities = Abilities(
        scores="top", attention=False, fork="crop", infill=marks is not None,
        chat=bool(props.get("chat_template")), internals=False, vocabulary=True, steps=True,
        stream=True, scoring=True,
    )  # fmt: skip
    made = LlamaServer(
        connection, info, abilities, table, frozenset() if eos is None else frozenset({eos}),
        marks, _harmless(table), bos if isinstance(bos, int) else None,
    )  # fmt: skip
    made.try_out()
    return made


def openai(connection: Connection, where: ServerAddress, notes: Sequence[str]) -> TextServer:
    """A server of which only OpenAI's routes are known. Raises AbilityError where it tells no
    log-probabilities."""
    listed = connection.get("/v1/models")
    if listed is None:
        raise AbilityError("this server is of a kind that is not known here")
    about = _model(listed, where.model)
    name = str(about.get("id", ""))
    most = _most_candidates(connection, name)
    dialect = OpenAI(connection, name, most)
    with suppress(RemoteError, InputError):
        dialect.echoes = _echo_of(dialect, "def f(x):\n") > 1
    can = ["streams", "forks by text", f"tells {most} candidates of a position"]
    can.append("scores a text in one request" if dialect.echoes else "cannot score a text")
    return _text_server(
        connection, where, dialect, name, [*notes, f"found at connect: it {', '.join(can)}", OWN],
        scoring=dialect.echoes, told={"id": name, "root": str(about.get("root", ""))},
        context=_whole(about, "max_model_len"),
    )  # fmt: skip


def _echo_of(dialect: OpenAI, text: str) -> int:
    """Tokens of an echo of ``text``, tried out; 0 where the server does not echo."""
    dialect.echoes = True
    try:
        return len(dialect.echo(text, 1, lambda: False) or ())
    finally:
        dialect.echoes = False


def _most_candidates(connection: Connection, name: str) -> int:
    """The most candidates that the server agrees to tell."""
    for most in (20, 10, 5, 1):
        body = {"model": name, "prompt": "x =", "max_tokens": 1, "logprobs": most,
                "temperature": 0.0}  # fmt: skip
        try:
            answer = connection.post("/v1/completions", body)
        except InputError:
            continue
        held = answer.get("choices") if isinstance(answer, dict) else None
        first = held[0] if isinstance(held, list) and held else None
        if not isinstance(first, dict):
            raise shapes.strange("it has no choices")
        if first.get("logprobs") is not None:
            return most
        break
    raise AbilityError("this server tells no log-probabilities; there is nothing to show")


def ollama(connection: Connection, where: ServerAddress, notes: Sequence[str]) -> TextServer:
    """Ollama by its own routes: its OpenAI ones tell no log-probabilities of prompts."""
    tags = connection.get("/api/tags")
    models = tags.get("models") if isinstance(tags, dict) else None
    rows = [m for m in models or () if isinstance(m, dict)] if isinstance(models, list) else []
    about = _model({"data": [{**m, "id": m.get("name")} for m in rows]}, where.model)
    name = str(about.get("id", ""))
    details = about.get("details") if isinstance(about.get("details"), dict) else {}
    can = "found at connect: it streams and forks by text, and cannot score a text"
    return _text_server(
        connection, where, Ollama(connection, name), name, [*notes, can, OWN], scoring=False,
        told={"digest": str(about.get("digest", "")), "id": name}, context=None,
        dtype=str((details or {}).get("quantization_level", "not told")),
    )  # fmt: skip


def _text_server(
    connection: Connection, where: ServerAddress, dialect: OpenAI | Ollama, name: str,
    notes: Sequence[str], *, scoring: bool, told: dict[str, str], context: int | None,
    dtype: str = "not told",
) -> TextServer:  # fmt: skip
    digest = hashlib.sha256(b"told by a server" + json.dumps(told, sort_keys=True).encode())
    info = ModelInfo(
        name=name[:100] or "model", path=where.root, architecture="not told",
        backend=f"{dialect.name} server", parameters=None, layers=None, heads=None, kv_heads=None,
        hidden=None, vocab=None, context=context, dtype=dtype[:40],
        device=f"{where.host}:{where.port}", kernel="server", model_digest=digest.hexdigest(),
        tokenizer_digest=Seen.digest, attention_layers=(), state_bytes_per_token=0,
        notes=tuple(notes), versions={},
    )  # fmt: skip
    abilities = Abilities(
        scores="top", attention=False, fork="none", infill=False, chat=False, internals=False,
        vocabulary=True, steps=False, stream=True, scoring=scoring,
    )  # fmt: skip
    return TextServer(connection, info, abilities, dialect)


def found(infill: bool, chat: bool) -> list[str]:
    """What was found at connect, as a note."""
    can = [
        "streams", "forks by prefix", "scores a text exactly, one request a token",
        *(["fills gaps"] if infill else []), *(["chats by its own template"] if chat else []),
    ]  # fmt: skip
    return [f"found at connect: it {', '.join(can)}; attention and internals stay there"]


def _model(listed: Any, name: str = "") -> dict[str, Any]:
    """The model that is meant among those that a server lists. Raises InputError."""
    data = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(data, list) or not data or not all(isinstance(m, dict) for m in data):
        raise shapes.strange("it lists no model")
    if not name and len(data) == 1:
        return dict(data[0])
    for about in data:
        if name and about.get("id") == name:
            return dict(about)
    known = ", ".join(str(m.get("id"))[:60] for m in data[:12])
    raise InputError("server", f"name one of its models after a # in the address: {known}")


def _whole(meta: dict[str, Any], name: str) -> int | None:
    value = meta.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _table(connection: Connection, size: int) -> Table:
    """Every id with its bytes, from one distribution over the whole vocabulary."""
    if not 0 < size <= MOST_VOCABULARY:
        raise shapes.strange("its vocabulary has no possible size")
    ids = connection.post("/tokenize", {"content": " ", "add_special": False})
    space = shapes.field(ids, "tokens", list, "/tokenize")
    answer = connection.post("/completion", {
        "prompt": space or [0], "n_predict": 1, "n_probs": size, "temperature": 0.0,
        "logit_bias": [[space[0] if space else 0, CERTAIN]],
        "response_fields": ["completion_probabilities"],
    })  # fmt: skip
    rows = shapes.entries(shapes.field(answer, "completion_probabilities", list, "/completion"))
    pieces: list[bytes | None] = [None] * size
    for c in rows[0].top if rows else ():
        if 0 <= c.id < size:
            pieces[c.id] = c.bytes
    if any(p is None for p in pieces):
        raise shapes.strange("it does not tell its vocabulary (n_probs)")
    special = [i for i, p in enumerate(pieces) if not p]
    return Table([p or b"" for p in pieces], {i: _literal(connection, i) for i in special})


def _literal(connection: Connection, token: int) -> str:
    said = connection.post("/detokenize", {"tokens": [token]})
    text = said.get("content") if isinstance(said, dict) else None
    return str(text)[:200] if text else f"<{token}>"


def _harmless(table: Table) -> int:
    """A token whose text is whole, so that the server never holds it back."""
    for i in range(len(table)):
        piece = table.piece(i)
        if piece and piece.isascii() and piece.decode().isprintable():
            return i
    raise shapes.strange("its vocabulary has no plain token")


def _digest(meta: dict[str, Any], table: str, template: Any) -> str:
    """Of what the server tells of its model: there is nothing else to go by."""
    told = {k: v for k, v in meta.items() if isinstance(v, int | str)}
    whole = json.dumps([told, table, str(template)], sort_keys=True)
    return hashlib.sha256(b"told by a server" + whole.encode()).hexdigest()
