"""Is this the beginning of some Python program? CPython's own parser as the oracle.

The parser reads tokens from left to right and never takes one back. So a text is viable exactly
when the parser, before it gives up, asks for a token behind the last one. Three looks:

1. the text as it stands, with incomplete input allowed: it parses, or the parser came to its end;
2. a line continuation behind it, so that the last statement is not ended by the end of the text;
3. the last lexeme taken for unfinished: a keyword, a number, an operator, a string.

"incomplete input" is what CPython says when its *first* pass came to the end. The second pass,
which only words the message, reads further; its messages prove nothing and are not looked at.

What it cannot know: names, types, and what CPython checks only after parsing (``return`` outside a
function is accepted). It follows the grammar of the CPython that runs it (3.11 and later).
"""

from __future__ import annotations

import ast
import codecs
import keyword
import re
import warnings

from tokenscope.code.prefix_string import closed

_STRICT = ast.PyCF_ONLY_AST | 0x200  # DONT_IMPLY_DEDENT
_FLAGS = _STRICT | 0x4000  # ALLOW_INCOMPLETE_INPUT
_WORDS = (*keyword.kwlist, "match", "case", "type")
_LAST_WORD = re.compile(r"(?<!\w)[^\W\d]\w*\Z")
_LAST_NUMBER = re.compile(r"(?<![\w)\]])[\d.][\w.]*(?:(?<=[eE])[+-])?\Z")
_AFTER_NUMBER = ("and", "else", "for", "if", "in", "is", "not", "or")  # 1if x else 2 is legal
_OPERATORS = ("!=", "...", "->", ":=", "**", "//", ">>", "<<", "**=", "//=", ">>=", "<<=", "==",
              "<=", ">=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "@=")  # fmt: skip
_EMPTY = re.compile(r"[ \t\f]*\Z")
# what is said of a string once it is whole: while it is put together with its neighbours
_BAD_STRING = re.compile(r"f-string|\((?:unicode|value) error\)|cannot mix bytes|bytes can only")


def viable(prefix: bytes | str) -> bool | None:
    """True: some continuation parses. False: none does. None: cannot be told (too deep)."""
    text = _decode(prefix) if isinstance(prefix, bytes) else prefix
    if text is None or "\0" in text:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes warn; they are no syntax errors
            return _viable(text.removeprefix("\ufeff"))
    except (RecursionError, MemoryError):
        return None


def _decode(prefix: bytes) -> str | None:
    """UTF-8; a character cut at the end counts as a letter, broken bytes as not viable."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(prefix)
    except UnicodeDecodeError:
        return None
    return text + "é" if decoder.getstate()[0] else text


def _viable(text: str) -> bool:
    # an indentation that has only begun says nothing yet
    body = _EMPTY.sub("", text) if text[text.rfind("\n") + 1 :].isspace() else text
    return _accepts(body) or _unfinished(body)


def _accepts(text: str) -> bool:
    """Whether the parser comes to the end of these lexemes, all taken for whole."""
    error = _error(text)
    if error is None:
        return True
    if _came_to_the_end(error):
        if '"""' not in text and "'''" not in text:
            return _string_holds(text)
        open_ = _error(text, _STRICT)  # it names a string that is open, and where it starts
        if open_ is None or "triple-quoted" not in str(open_.msg):
            return _string_holds(text)
        return _open_string(open_, text)
    if "unterminated" in str(error.msg):
        return False  # the line continuation would carry an open string on
    if text.endswith("\\"):
        return _came_to_the_end(_error(text + "\n"))
    return _came_to_the_end(_error(text + " \\\n")) and _string_holds(text)


def _came_to_the_end(error: SyntaxError | None) -> bool:
    return error is None or "incomplete input" in str(error.msg)


def _string_holds(text: str) -> bool:
    """Strings side by side are put together when the token behind them is read; so put one there.
    Any will do: what is wrong with the strings is said before what is wrong with the token."""
    if text[-1:] not in ("'", '"'):
        return True
    error = _error(text + " . \\\n")
    return error is None or not _BAD_STRING.search(str(error.msg))


def _error(text: str, flags: int = _FLAGS) -> SyntaxError | None:
    try:
        compile(text, "<prefix>", "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        return error
    except (ValueError, OverflowError) as error:  # e.g. an integer of 5,000 digits
        return SyntaxError(str(error))
    return None


def _unfinished(text: str) -> bool:
    error = _error(text)
    if error is not None and "unterminated" in str(error.msg):
        return _open_string(error, text)
    word = _LAST_WORD.search(text)
    if word:
        head, tail = text[: word.start()], word.group()
        rest = [w for w in _WORDS if w.startswith(tail) and w != tail]
        if keyword.iskeyword(tail):
            rest.append(tail + "_")  # the beginning of a name: return|code
        if any(_accepts(head + w) for w in rest):
            return True
        opens = len(tail) <= 2 and set(tail.lower()) <= set("rbfut")  # the prefix of a string
        if opens and _accepts(head + ("b''" if "b" in tail.lower() else "''")):
            return True
    if _LAST_NUMBER.search(text):
        if any(_accepts(text + more) for more in ("0", "1", "x0", "e0", "0j", "o0", "b0")):
            return True
        if any(_accepts(t) for t in _ended(text, _AFTER_NUMBER, " ")):
            return True
    return any(_accepts(t) for t in _ended(text, _OPERATORS, ""))


def _ended(text: str, words: tuple[str, ...], before: str) -> list[str]:
    """The text with each word that its end may be the beginning of, whole."""
    return [
        text[:-cut] + before + word
        for word in words
        for cut in range(len(word) - 1, 0, -1)
        if text.endswith(word[:cut])
    ]


def _open_string(error: SyntaxError, text: str) -> bool:
    """Put a closed string in the place of the one left open, if that is the last thing there."""
    lines = text.split("\n")
    row, column = (error.lineno or 1) - 1, max((error.offset or 1) - 1, 0)
    if row >= len(lines):
        return False
    # CPython 3.11 points at the quote, later versions at the prefix of the string
    quote = re.search(r"\"\"\"|'''|\"|'", lines[row][column:])
    if quote is None:
        return False
    if len(quote.group()) == 1:  # ends with its line, unless a backslash carries it on
        tail = lines[row:]
        if any(not part.endswith("\\") for part in tail[:-1]):
            return False
    start = sum(len(line) + 1 for line in lines[:row]) + column + quote.start()
    head, body = text[:start], text[start + len(quote.group()) :]
    prefix = re.search(r"(?<!\w)[rRbBuUfFtT]{0,2}\Z", head)
    mark = prefix.group() if prefix else ""
    whole = closed(mark, quote.group(), body, lambda part: _viable("(" + part))
    return whole is not None and _accepts(head[: len(head) - len(mark)] + whole)


class PythonPrefix:
    """The same question for a text that grows, asked in the time of its last statement.

    Statements that are complete at the top level, or in the body of the open class or function,
    cannot change the answer any more and are left out of what is parsed again.
    """

    def __init__(self) -> None:
        self._text = ""
        self._pending = b""

    def append(self, piece: bytes) -> None:
        """Take more bytes for granted (they need not be viable)."""
        data = self._pending + piece
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        self._pending = decoder.getstate()[0]
        self._text += text
        if "\n" in text:
            self._settle()

    def viable(self, piece: bytes = b"") -> bool | None:
        """Whether what was appended, followed by ``piece``, is viable."""
        return viable(self._text.encode("utf-8", "surrogatepass") + self._pending + piece)

    def _settle(self) -> None:
        whole = self._text[: self._text.rfind("\n") + 1]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree: ast.AST = compile(whole, "<prefix>", "exec", _FLAGS, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return
        lines = whole.splitlines(keepends=True)
        if len(lines) != whole.count("\n"):
            return  # form feeds and the like: lines are not what the parser counts
        drop: list[tuple[int, int]] = []
        while isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not tree.body:
                break
            first, last = _line(tree.body[0]), _line(tree.body[-1])
            if lines[last - 1][: tree.body[-1].col_offset].strip():
                break  # it stands behind a semicolon or its header
            if last > first:
                drop.append((first - 1, last - 1))
            tree = tree.body[-1]
        for begin, end in reversed(drop):
            del lines[begin:end]
        self._text = "".join(lines) + self._text[len(whole) :]


def _line(statement: ast.stmt) -> int:
    """The first line of a statement, from 1, its decorators included."""
    decorators = getattr(statement, "decorator_list", [])
    first: int = min([statement.lineno, *(d.lineno for d in decorators)])
    return first
