"""The tokenizer of a model folder, as transformers would use it, and what it puts before a text.

The file is tried in a guarded worker first. The truth is then ``AutoTokenizer``: it may rebuild
parts of the file by the tokenizer's class, and whether a start token is put before a text is
asked of it, not guessed from settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from tokenizers import Tokenizer

from tokenscope.backends.hf import guarded
from tokenscope.backends.hf.checkpoint import digest, read_json
from tokenscope.backends.hf.claims import brief
from tokenscope.backends.open import StartToken
from tokenscope.errors import InputError, ModelError

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
MAX_TOKENIZER = 48 << 20
MAX_SETTINGS = 8 << 20
SECONDS = 3.5
PROBES = ("a", "def f(x):\n    return x\n", "1 + 1")


@dataclass(frozen=True, slots=True)
class Opened:
    """``names``: literals of the special tokens by role. ``puts``: ids that it puts before a text;
    ``appends``: ids that it puts after one."""

    tokenizer: Tokenizer
    names: dict[str, str]
    puts: tuple[int, ...]
    appends: tuple[int, ...]


def open_tokenizer(folder: Path, rows: int) -> Opened:
    """Try the file apart, then load it. ``rows``: of the model's embedding.

    Raises ModelError that names the file and the key.
    """
    file = folder / "tokenizer.json"
    size = file.stat().st_size
    if size > MAX_TOKENIZER:
        raise ModelError(file, f"is too large: over {MAX_TOKENIZER} bytes")
    names = _names(folder)
    _try(str(file), digest((file,)), size, rows)
    from transformers import AutoTokenizer

    try:
        own = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = own.backend_tokenizer
        found = [_around(own, text) for text in PROBES]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (Rust panics are no Exception)
        raise ModelError(file, f"is no tokenizer that can be used ({brief(error)})") from None
    if tokenizer.get_vocab_size() > rows:
        _refuse_larger(folder, tokenizer, rows)
    unknown = [i for i in (*found[0][0], *found[0][1]) if tokenizer.id_to_token(i) is None]
    if unknown:
        raise ModelError(file, f"post_processor: puts id {unknown[0]}, which is no token's")
    puts, appends = found[0]
    if any(f != found[0] for f in found):  # what it puts depends on the text: nothing can be said
        puts, appends = (), ()
    return Opened(tokenizer, names, puts, appends)


@lru_cache(maxsize=64)
def _try(file: str, digest: str, size: int, rows: int) -> None:
    """One try per content: the same file is not tried twice by one process."""
    guarded.run(
        "tokenizer_worker.py", {"file": file, "rows": rows, "texts": []}, file,
        memory=(512 << 20) + 20 * size, seconds=SECONDS + size / (4 << 20),
    )  # fmt: skip


def _names(folder: Path) -> dict[str, str]:
    """Literals by role out of tokenizer_config.json, each checked. Raises ModelError."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    settings = read_json(path, MAX_SETTINGS)
    out = {}
    for name in NAMES:
        value = settings.get(name)
        literal = value.get("content") if isinstance(value, dict) else value
        if literal is not None and not isinstance(literal, str):
            raise ModelError(path, f"{name}: {str(literal)[:24]!r} is no text")
        if literal:
            out[name] = literal
    kind = settings.get("tokenizer_class")
    if kind is not None and not isinstance(kind, str):
        raise ModelError(path, "tokenizer_class: is no name")
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise ModelError(path, "added_tokens_decoder: is no table")
    for key in decoder:
        if not key.isdecimal() or len(key) > 9:
            raise ModelError(path, f"added_tokens_decoder: {key[:24]!r} is no id")
    return out


def _around(own: Any, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What it puts before and after a text: with special tokens on, less the text's own ids."""
    whole = list(own(text).input_ids)
    bare = list(own(text, add_special_tokens=False).input_ids)
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return tuple(whole[:at]), tuple(whole[at + len(bare) :])
    return (), ()


def _refuse_larger(folder: Path, tokenizer: Tokenizer, rows: int) -> None:
    beyond = sorted((i, t) for t, i in tokenizer.get_vocab().items() if i >= rows)
    if beyond:
        number, token = beyond[0]
        raise ModelError(
            folder / "tokenizer_config.json", f"{len(beyond)} token(s) lie beyond the model's "
            f"embedding of {rows} rows, the first {token[:40]!r} with id {number}",
        )  # fmt: skip


def choose_start(
    opened: Opened, wanted: StartToken, config_bos: object
) -> tuple[tuple[int, ...], str]:
    """Ids to put before a plain prompt, and a note that says why.

    ``auto``: what the tokenizer itself puts. ``always``: its start token, also where it puts none.
    Raises InputError for another word, or for ``always`` without a start token.
    """
    if wanted not in get_args(StartToken):
        raise InputError("start_token", f"{str(wanted)[:40]!r}; known: auto, always, never")
    literal = opened.names.get("bos_token")
    own = opened.tokenizer.token_to_id(literal) if literal else None
    if own is None and type(config_bos) is int and opened.tokenizer.id_to_token(config_bos):
        own = config_bos
    shown = lambda ids: " ".join(str(opened.tokenizer.id_to_token(i)) for i in ids)
    if wanted == "auto":
        if opened.puts:
            return opened.puts, f"start token {shown(opened.puts)}: the tokenizer puts it itself"
        return (), "no start token: the tokenizer itself puts none before a text"
    if wanted == "never":
        return (), "no start token: as asked"
    ids = opened.puts or ((own,) if own is not None else ())
    if not ids:
        raise InputError("start_token", "this tokenizer has no start token")
    return ids, f"start token {shown(ids)}: as asked"
