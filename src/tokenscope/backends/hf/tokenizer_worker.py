"""Tries one tokenizer.json in a process of its own: stdin JSON in, stdout JSON lines out.

Run by path with ``python -I``; it imports nothing of TokenScope. First the file is read as plain
JSON and its numbers are checked, then the library builds it, then texts of many kinds go through
each part of it. Each stage is said before it begins.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MAX_PARTS = 64
MAX_GROWTH = 64  # characters that a chain of replacements may make out of one
RUN = 400
TEXTS = [
    "", "a", "def f(x):\n    return x + 1\n", "\t\tif (a && b) { return; }\r\n",
    "na\u00efve fa\u00e7ade \u2014 \u2603 \u6f22\u5b57 \U0001f642 \u0301\u200d\ufdfa",
    *(c * RUN + "!" for c in "aA0 \n_-x.\u00e9"), "ab" * RUN + "!", "a1 " * RUN + "\x00",
]  # fmt: skip


def limit(memory: int, seconds: int) -> None:
    """Bound this process, where the platform can."""
    try:
        import resource
    except ImportError:  # no rlimits on this platform; the caller's time limit still holds
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def say(line: dict[str, Any]) -> None:
    """One line out, at once: the next stage may end the process."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def entries(model: dict[str, Any]) -> list[tuple[str, int]]:
    """(token, id) of the model's vocabulary, which is a table, or a list in order of ids."""
    vocab = model.get("vocab")
    if isinstance(vocab, list):
        return [(str(v[0] if isinstance(v, list) and v else v), n) for n, v in enumerate(vocab)]
    if not isinstance(vocab, dict):
        raise ValueError("model.vocab: is neither a table nor a list")
    for token, number in vocab.items():
        if type(number) is not int or number < 0:
            raise ValueError(f"model.vocab: id {str(number)[:24]!r} of {token[:40]!r} is no id")
    return list(vocab.items())


def check_ids(table: dict[str, Any], rows: int) -> None:
    """Ids lie inside the embedding's rows and no two tokens share one."""
    model = table.get("model")
    if not isinstance(model, dict):
        raise ValueError("model: is missing")
    added = table.get("added_tokens") or []
    if not isinstance(added, list):
        raise ValueError("added_tokens: is no list")
    owner: dict[int, str] = {}
    for token, number in entries(model):
        place(owner, "model.vocab", token, number, rows)
    for n, item in enumerate(added):
        key = f"added_tokens[{n}]"
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            raise ValueError(f"{key}: has no content")
        its = item.get("id")
        if type(its) is not int or its < 0:
            raise ValueError(f"{key}: id {str(its)[:24]!r} is no id")
        if not item["content"]:
            raise ValueError(f"{key}: content is empty")
        place(owner, key, item["content"], its, rows)


def check_rest(table: dict[str, Any]) -> None:
    """What would make ids random, or put a book before every text."""
    if table["model"].get("dropout"):
        raise ValueError("model.dropout: the same text would be split at random")
    after = table.get("post_processor")
    for key in ("single", "pair"):
        parts = after.get(key) if isinstance(after, dict) else None
        if isinstance(parts, list) and len(parts) > MAX_PARTS:
            raise ValueError(f"post_processor.{key}: has {len(parts)} parts")


def place(owner: dict[int, str], key: str, token: str, number: int, rows: int) -> None:
    """Note whose id it is. Raises ValueError when it is another's, or has no row."""
    if number >= rows:
        raise ValueError(
            f"{key}: token {token[:40]!r} has id {number}; the model's embedding has {rows} rows "
            "(a tokenizer larger than its model)"
        )
    if owner.setdefault(number, token) != token:
        raise ValueError(
            f"{key}: tokens {owner[number][:40]!r} and {token[:40]!r} share id {number}"
        )


def growth(part: Any) -> int:
    """The most characters that the replacements of a normaliser can make of one."""
    if not isinstance(part, dict):
        return 1
    if part.get("type") == "Sequence":
        total = 1
        for item in part.get("normalizers") or part.get("pretokenizers") or []:
            total = min(total * growth(item), 1 << 40)
        return total
    if part.get("type") == "Replace":
        pattern = part.get("pattern")
        old = pattern.get("String") if isinstance(pattern, dict) else None
        new = part.get("content")
        return max(1, -(-len(str(new)) // max(len(old) if isinstance(old, str) else 1, 1)))
    return 1


def attempt(job: dict[str, Any]) -> None:
    """All stages. Raises whatever goes wrong."""
    data = Path(job["file"]).read_bytes()
    table = json.loads(data)
    if not isinstance(table, dict):
        raise ValueError("is no JSON object")
    check_ids(table, job["rows"])
    check_rest(table)
    for key in ("normalizer", "pre_tokenizer"):
        factor = growth(table.get(key))
        if factor > MAX_GROWTH:
            raise ValueError(f"{key}: its replacements can make {factor} characters out of one")
    del table
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(data)
    for text in [*TEXTS, *job["texts"]]:
        if tokenizer.normalizer is not None:
            say({"stage": "normalizer"})
            text = tokenizer.normalizer.normalize_str(text)
        if tokenizer.pre_tokenizer is not None:
            say({"stage": "pre_tokenizer"})
            tokenizer.pre_tokenizer.pre_tokenize_str(text)
    for text in [*TEXTS, *job["texts"]]:
        say({"stage": "model"})
        tokenizer.encode(text, add_special_tokens=False)
        say({"stage": "post_processor"})
        tokenizer.encode(text)


def main() -> None:
    """Read ``{file, rows, texts, memory, seconds}``; write stages, then ``{ok}`` or ``{error}``."""
    job = json.load(sys.stdin)
    limit(int(job["memory"]), int(job["seconds"]))
    try:
        attempt(job)
        say({"ok": True})
    except MemoryError:
        say({"error": "took too much memory"})
    except BaseException as error:  # noqa: BLE001 (Rust panics are no Exception)
        text = " ".join(str(error).split())[:300]
        plain = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
        say({"error": text if plain else f"is no tokenizer ({type(error).__name__}: {text})"})


if __name__ == "__main__":
    main()
