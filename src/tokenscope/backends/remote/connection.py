"""Talking to a model server: bounded, timed, tried again where that does no harm, and cancellable.

No proxy, cookie or redirect is followed: what is asked goes to the one address that was allowed.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx

from tokenscope.errors import BusyError, CapacityError, InputError, RemoteError

MOST_BODY = 64 << 20  # a whole answer: the vocabulary of 250k tokens takes about 25 MB
MOST_LINE = 16 << 20  # one event of a stream
MOST_WAIT = 30.0  # seconds that a server may ask us to wait before we try again
AGAIN = (429, 502, 503, 504)
LOOK = 0.05  # seconds between two looks at whether a stream is still wanted
PILE = 256  # lines of a stream that are read ahead of who uses them
BEFORE = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError,
    httpx.RemoteProtocolError,
)  # fmt: skip
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and tries. ``silence``: the longest that a server may say nothing."""

    connect: float = 5.0
    silence: float = 120.0
    tries: int = 3
    pause: float = 0.5


class Connection:
    """One server. Safe to use from several threads.

    Raises RemoteError (what is wrong, never what was sent), InputError, CapacityError and BusyError
    for what the server refuses.
    """

    def __init__(self, root: str, key: str | None, limits: Limits = Limits()) -> None:
        self.root = root
        self.limits = limits
        headers = {"accept-encoding": "identity", "user-agent": "tokenscope"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            headers=headers, trust_env=False, follow_redirects=False,
            timeout=httpx.Timeout(limits.silence, connect=limits.connect),
            limits=httpx.Limits(max_connections=64),
        )  # fmt: skip

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON at ``path``; None where the server has nothing there."""
        return self._whole("GET", path, None, lambda: False, missing=True)

    def post(
        self, path: str, body: Mapping[str, Any], cancelled: Cancelled = lambda: False,
        missing: bool = False,
    ) -> Any:  # fmt: skip
        """The JSON that answers ``body``. ``missing``: None where there is no such route."""
        return self._whole("POST", path, body, cancelled, missing)

    def _whole(self, method: str, path: str, body: Any, cancelled: Cancelled, missing: bool) -> Any:
        with _Stream(self, method, path, body, cancelled) as stream:
            if missing and stream.status in (404, 405, 501):
                return None
            stream.refuse()
            return _json(stream.read(MOST_BODY))

    def lines(self, path: str, body: Mapping[str, Any], cancelled: Cancelled) -> Iterator[bytes]:
        """The lines of a streamed answer, as they come; ends early once ``cancelled()``."""
        with _Stream(self, "POST", path, body, cancelled) as stream:
            stream.refuse()
            yield from stream.lines()

    def send(self, method: str, path: str, body: Any) -> httpx.Response:
        """One try: an answer whose body is still to be read."""
        request = self._client.build_request(method, self.root + path, json=body)
        return self._client.send(request, stream=True)


class _Stream:
    """An answer that a thread of its own reads, so that whoever waits for it can leave."""

    def __init__(
        self, connection: Connection, method: str, path: str, body: Any, cancelled: Cancelled
    ) -> None:
        self._ask = lambda: connection.send(method, path, body)
        self._limits, self._cancelled = connection.limits, cancelled
        self._answer: httpx.Response | None = None
        self._pieces: queue.Queue[bytes | Exception | None] = queue.Queue(PILE)
        self._left = threading.Event()
        self._opened = threading.Event()
        self._error: Exception | None = None
        self._whole = False  # all of the answer was read: its connection may serve again
        self.status = 0

    def __enter__(self) -> _Stream:
        for attempt in range(1, self._limits.tries + 1):
            last = attempt == self._limits.tries
            try:
                self._start()
            except BEFORE as error:  # no answer has begun, and asking again changes nothing there
                if last or self._cancelled():
                    raise told(error) from None
                self._rest(self._limits.pause * 2 ** (attempt - 1))
                continue
            if self.status not in AGAIN or last or self._answer is None:
                return self
            wait = _asked_wait(self._answer.headers.get("retry-after", ""))
            if wait is None:
                wait = self._limits.pause * 2 ** (attempt - 1)
            if wait > MOST_WAIT:
                return self
            self._leave()
            self._rest(wait)
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _start(self) -> None:
        self._left, self._opened, self._error = threading.Event(), threading.Event(), None
        self._answer, self._whole, self.status = None, False, 0
        self._pieces = queue.Queue(PILE)
        threading.Thread(target=self._pull, args=(self._left,), daemon=True).start()
        while not self._opened.wait(LOOK):
            if self._cancelled():
                self._leave()
                self.status = 0
                return
        if self._error is not None:
            if isinstance(self._error, BEFORE):
                raise self._error
            raise told(self._error) from None

    def _pull(self, left: threading.Event) -> None:
        """The reading thread: ends when there is nothing more, or nobody wants more."""
        pieces, opened = self._pieces, self._opened
        end: Exception | None = None
        try:
            answer = self._ask()
            self._answer, self.status = answer, answer.status_code
            opened.set()
            with closing(answer):
                for piece in answer.iter_raw():
                    if not _put(pieces, piece, left):
                        return
        except Exception as error:  # noqa: BLE001 (whatever it is, the waiting thread tells it)
            end = error
            if not opened.is_set():
                self._error = error
        finally:
            opened.set()
            _put(pieces, end, left)

    def _leave(self) -> None:
        self._left.set()
        if self._whole or self._answer is None:
            return
        with suppress(Exception):  # so the server stops now; else it would at its next token
            held = self._answer.extensions["network_stream"].get_extra_info("socket")
            held.shutdown(socket.SHUT_RDWR)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._cancelled():
            time.sleep(LOOK)

    def refuse(self) -> None:
        """Raise what an answer that is none says."""
        if self.status and self.status != 200:
            raise _refusal(self.status, self.read(1 << 20, cut=True))

    def read(self, most: int, cut: bool = False) -> bytes:
        """All of it. Raises RemoteError past ``most`` bytes (``cut``: only that much is read)."""
        parts, size = [], 0
        for piece in self._each():
            parts.append(piece)
            size += len(piece)
            if size > most:
                if cut:
                    break
                raise RemoteError(f"its answer holds more than {most} bytes")
        return b"".join(parts)

    def lines(self) -> Iterator[bytes]:
        """Whole lines, without their ends."""
        rest = bytearray()
        for piece in self._each():
            rest += piece
            if b"\n" in piece:
                *whole, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                yield from (line.rstrip(b"\r") for line in whole)
            if len(rest) > MOST_LINE:
                raise RemoteError(f"an event of its stream holds more than {MOST_LINE} bytes")
        if rest:
            yield bytes(rest)

    def _each(self) -> Iterator[bytes]:
        while not self._cancelled():
            try:
                piece = self._pieces.get(timeout=LOOK)
            except queue.Empty:
                continue
            if piece is None:
                self._whole = True
                return
            if isinstance(piece, Exception):
                raise told(piece) from None
            yield piece


def _put(pieces: queue.Queue[Any], piece: Any, left: threading.Event) -> bool:
    """Hand a piece on. False when nobody wants it any more."""
    while not left.is_set():
        with suppress(queue.Full):
            pieces.put(piece, timeout=LOOK)
            return True
    return False


def _asked_wait(text: str) -> float | None:
    """Seconds of a Retry-After header; None where it names none."""
    return float(text[:9]) if text.isdecimal() else None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise RemoteError("its answer is no JSON") from None


def _refusal(status: int, data: bytes) -> Exception:
    """What a status says. Of the server's own words only the kind is used: they may repeat us."""
    kind, fits = "", None
    with suppress(RemoteError, LookupError, AttributeError, TypeError):
        said = _json(data)["error"]
        kind = str(said.get("type", "")) if isinstance(said, dict) else ""
        context = said.get("n_ctx") if isinstance(said, dict) else None
        fits = context if isinstance(context, int) else None
    if kind == "exceed_context_size_error" or status == 413:
        return CapacityError("the text does not fit the context of the server", fits=fits)
    if status in (401, 403):
        return RemoteError("it wants a key, or another one; see docs/servers.md for keys")
    if status in (429, 503):
        return BusyError("the model server is busy, or still loading")
    if status in (400, 422):
        return InputError("request", f"the model server refused it ({status})")
    if status == 404:
        return RemoteError("it has no such model or route (404)")
    if 300 <= status < 400:
        return RemoteError("it sends us to another address, which is not followed")
    return RemoteError(f"it failed ({status})")


def told(error: Exception) -> Exception:
    """An error of the HTTP client as one of ours."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return RemoteError("it cannot be reached")
    if isinstance(error, httpx.TimeoutException):
        return RemoteError("it has said nothing for too long")
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return RemoteError("the connection was cut in the middle of its answer")
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
        return RemoteError(f"talking to it failed ({type(error).__name__})")
    return error
