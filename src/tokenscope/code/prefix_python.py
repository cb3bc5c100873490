"""Is this the beginning of some Python program? CPython's own parser as the oracle.

A prefix is viable when the parser finds nothing wrong before the end of the input. Three looks, the
first that accepts ends it:

1. compile to an AST with open blocks allowed; a plain "invalid syntax" points at the furthest token
   that was read, so it is at the end or it is an error;
2. otherwise allow incomplete input, or put a line continuation behind it: the parser must then ask
   for more and complain about the end of the input, not about something before it;
3. allow the last lexeme to be unfinished: a keyword, a number, an operator, a string.

What it cannot know: names, types, and what CPython checks only after parsing (``return`` outside a
function is accepted). It follows the grammar of the CPython that runs it (tested on 3.11 to 3.13).
"""

from __future__ import annotations

import ast
import codecs
import keyword
import re
import warnings

_FLAGS = ast.PyCF_ONLY_AST | 0x4000 | 0x200  # ALLOW_INCOMPLETE_INPUT, DONT_IMPLY_DEDENT
_STRICT = ast.PyCF_ONLY_AST | 0x200
_AT_END = re.compile(
    r"incomplete input|unexpected EOF|was never closed|unterminated triple-quoted"
    r"|expected an indented block|unexpected end of file"
)
_WORDS = (*keyword.kwlist, "match", "case", "type")
_LAST_WORD = re.compile(r"(?<!\w)[^\W\d]\w*\Z")
_LAST_NUMBER = re.compile(r"(?<![\w)\]])[\d.][\w.]*(?:(?<=[eE])[+-])?\Z")
_OPERATORS = ("!=", "...", "->", ":=", "**=", "//=", ">>=", "<<=", "==", "<=", ">=", "+=", "-=",
              "*=", "/=", "%=", "&=", "|=", "^=", "@=")  # fmt: skip
_EMPTY = re.compile(r"[ \t\f]*\Z")


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
    if _accepts(body):
        return True
    return _unfinished(body)


def _accepts(text: str) -> bool:
    plain = _error(text, _STRICT)
    if plain is None:
        return True
    if plain.msg == "invalid syntax":
        # this message points at the furthest token that was read: the end, or what is wrong
        at = _position(plain, text)
        return at >= len(text.rstrip()) or text[at] == "#"
    error = _error(text)
    if error is None or _open_at_end(error, text):
        return True
    if text.endswith("\\"):
        return _open_at_end(_error(text + "\n") or error, text + "\n")
    more = _error(text + " \\\n")
    return more is None or bool(_AT_END.search(str(more.msg)))


def _position(error: SyntaxError, text: str) -> int:
    """The error's place as an index into the text."""
    if not error.offset:
        return len(text)  # the end marker has no column
    at = 0
    for _ in range((error.lineno or 1) - 1):
        at = text.find("\n", at) + 1
        if at == 0:
            return len(text)
    return at + error.offset - 1


def _open_at_end(error: SyntaxError, text: str) -> bool:
    message = str(error.msg)
    if "triple-quoted" in message:  # all is well only if it is well before the string
        return _open_string(error, text)
    return bool(_AT_END.search(message))


def _error(text: str, flags: int = 0) -> SyntaxError | None:
    try:
        compile(text, "<prefix>", "exec", flags or _FLAGS, dont_inherit=True)
    except SyntaxError as error:
        return error
    except (ValueError, OverflowError) as error:  # e.g. an integer of 5,000 digits
        return SyntaxError(str(error))
    return None


def _unfinished(text: str) -> bool:
    error = _error(text)
    if error is not None and "unterminated string" in str(error.msg):
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
        if opens and _accepts(head + "''"):
            return True
    number = _LAST_NUMBER.search(text)
    if number and any(_accepts(text + more) for more in ("0", "1", "x0", "e0", "0j", "o0", "b0")):
        return True
    for operator in _OPERATORS:
        for cut in range(len(operator) - 1, 0, -1):
            if text.endswith(operator[:cut]) and _accepts(text[:-cut] + operator):
                return True
    return False


def _open_string(error: SyntaxError, text: str) -> bool:
    """Put a closed string in the place of the one left open, if that is the last thing there."""
    lines = text.split("\n")
    row, column = (error.lineno or 1) - 1, max((error.offset or 1) - 1, 0)
    if row >= len(lines):
        return False
    line = lines[row]
    # CPython 3.11 points at the quote, later versions at the prefix of the string
    quote = re.search(r"\"\"\"|'''|\"|'", line[column:])
    if quote is None:
        return False
    start = column + quote.start()
    if len(quote.group()) == 1:  # ends with its line, unless a backslash carries it on
        tail = lines[row:]
        if any(not part.endswith("\\") for part in tail[:-1]):
            return False
    head = "\n".join([*lines[:row], line[:start]])
    prefix = re.search(r"(?<!\w)[rRbBuUfFtT]{0,2}\Z", head)
    head = head[: prefix.start()] if prefix else head
    # a concatenation of bytes and text is an error that the unfinished string may still avoid
    return _accepts(head + "''") or _accepts(head + "b''")


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
