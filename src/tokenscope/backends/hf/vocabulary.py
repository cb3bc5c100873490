"""Text to ids and *bytes*, through the tokenizer's own file.

Bytes are taken per token from the vocabulary (never by decoding single tokens, which strips
spaces and breaks split characters) and checked per sequence: the bytes of the tokens concatenate
to the text, or the spans are built from the tokenizer's offsets instead.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

from tokenscope.errors import InputError
from tokenscope.trace.tokens import Tokens


@lru_cache(maxsize=1)
def byte_of_char() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (Radford 2019)."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in keep}
    table |= {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in keep)}
    return table


class Vocabulary:
    """A tokenizer with exact bytes. ``specials``: id -> literal of every special token.

    ``marks``: ids that count as special whatever the tokenizer says of them (infill marks, and
    what it puts before a text).
    """

    def __init__(self, tokenizer: Tokenizer, marks: Sequence[int] = ()) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._plain = copy.deepcopy(tokenizer)
        # Text from outside never turns into control tokens: a literal "<|endoftext|>" in a prompt
        # is encoded as the ordinary characters that it is.
        self._plain.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder()
        self.specials: dict[int, str] = {i: t.content for i, t in added.items() if t.special}
        named = {i: tokenizer.id_to_token(i) for i in marks}
        self.specials |= {i: str(token) for i, token in named.items() if token is not None}
        self._added = {i: t.content.encode() for i, t in added.items() if i not in self.specials}
        config = json.loads(tokenizer.to_str())
        self._byte_level = "ByteLevel" in json.dumps(
            [config.get("decoder"), config.get("pre_tokenizer")]
        )
        table = tokenizer.get_vocab()
        # One past the last id: a vocabulary may have holes, so this is not the number of tokens.
        self.size = max(table.values(), default=-1) + 1
        self._pieces: dict[int, bytes] = {}
        self.longest = max((len(t.encode()) for t in table), default=1)

    def id_of(self, token: str) -> int | None:
        """The id of a token by its literal, or None."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def label(self, token_id: int) -> str | None:
        """The literal of a special id; None for an ordinary one. A hole is called unused."""
        found = self.specials.get(token_id)
        if found is None and self._hole(token_id):
            return f"<unused {token_id}>"
        return found

    def _hole(self, token_id: int) -> bool:
        inside = 0 <= token_id < self.size
        return inside and self._tokenizer.id_to_token(token_id) is None

    def piece(self, token_id: int) -> bytes:
        """The bytes of an id inside a text; b"" for special ids. Raises InputError if unknown."""
        held = self._pieces.get(token_id)
        if held is None:
            held = self._pieces[token_id] = self._piece(token_id)
        return held

    def _piece(self, token_id: int) -> bytes:
        if token_id in self.specials:
            return b""
        if token_id in self._added:
            return self._added[token_id]
        token = self._tokenizer.id_to_token(token_id) if 0 <= token_id < self.size else None
        if token is None and 0 <= token_id < self.size:
            return b""
        if token is None:
            raise InputError("token id", f"{token_id} is not in the vocabulary of {self.size}")
        if self._byte_level:
            table = byte_of_char()
            if all(c in table for c in token):
                return bytes(table[c] for c in token)
            return str(token).encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])  # byte fallback of SentencePiece vocabularies
        return str(token).replace("\u2581", " ").encode()

    def encode(self, text: str, prefix: Sequence[int] = ()) -> Tokens:
        """Tokens of ``text`` after the special ids ``prefix``; bytes concatenate to the text.

        Raises InputError for text that is no valid Unicode, or that the tokenizer cannot take.
        """
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError("text", f"lone surrogate at character {error.start}") from None
        encoding = self._guarded(lambda: self._plain.encode(text, add_special_tokens=False))
        ids = list(encoding.ids)
        pieces = [self.piece(i) for i in ids]
        if b"".join(pieces) != data:
            pieces = self._spans(pieces, encoding.offsets, text, data)
            if b"".join(pieces) != data:
                raise InputError("text", "the tokenizer drops parts of it")
        labels = {n: self.specials[i] for n, i in enumerate(prefix)}
        return Tokens.of([*prefix, *ids], [b""] * len(prefix) + pieces, labels)

    def encode_rendered(self, text: str) -> Tokens:
        """Tokens of a chat template's output: here special literals *are* special tokens."""
        encoding = self._guarded(lambda: self._tokenizer.encode(text, add_special_tokens=False))
        ids = list(encoding.ids)
        labels = {n: self.specials[i] for n, i in enumerate(ids) if i in self.specials}
        return Tokens.of(ids, [self.piece(i) for i in ids], labels)

    def special_in(self, text: str) -> str | None:
        """The literal of a special token that ``text`` would bring into a rendered chat, or None.

        Asked of the tokenizer itself, so that forms which become a literal only after its
        normalisation (full-width brackets, say) are found too.
        """
        held = next((s for s in self.specials.values() if s and s in text), None)
        if held is not None:
            return held
        ids = self._guarded(lambda: self._tokenizer.encode(text, add_special_tokens=False)).ids
        return next((self.specials[i] for i in ids if i in self.specials), None)

    @staticmethod
    def _guarded(call: Callable[[], Any]) -> Any:
        """Run a tokenizer call. Rust panics are no Exception, so BaseException is caught."""
        try:
            return call()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 (see above)
            raise InputError("text", f"the tokenizer failed ({type(error).__name__})") from None

    @staticmethod
    def _spans(
        pieces: list[bytes], offsets: Sequence[tuple[int, int]], text: str, data: bytes
    ) -> list[bytes]:
        """A partition of the source bytes when the vocabulary's bytes do not give them back."""
        joined = b"".join(pieces)
        if pieces and joined == b" " + data:  # SentencePiece puts a space before the text
            return [pieces[0][1:], *pieces[1:]]
        # Byte offset of every character, then each token owns from its start to the next start.
        at = [0]
        for char in text:
            at.append(at[-1] + len(char.encode()))
        out: list[bytes] = []
        last = 0
        for n, (start, _) in enumerate(offsets):
            following = offsets[n + 1][0] if n + 1 < len(offsets) else len(text)
            end = max(last, at[max(start, following)])
            out.append(data[last:end])
            last = end
        return out
