"""Bounds on what a client may send: size of a body, compressed or not, and requests a minute."""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from katiml.errors import InvalidInput, KatiMLError, TooLarge
from katiml.server.errors import answer_error

__all__ = ["MEGABYTE", "BodyLimit", "RateLimit", "TooManyRequests"]

MEGABYTE = 1_000_000
_STEP = 1 << 20
_CLIENTS_REMEMBERED = 10_000


class TooManyRequests(KatiMLError):
    """More requests in a minute than this server allows one key."""

    status = 429


class RateLimit:
    """At most `per_minute` requests of one client in any minute, as a bucket that refills.

    >>> clock = iter([0.0, 0.0, 0.0, 30.0])
    >>> limit = RateLimit(2, clock=lambda: next(clock))
    >>> [limit.take("key") for _ in range(4)]
    [0.0, 0.0, 30.0, 0.0]
    """

    def __init__(
        self,
        per_minute: int,
        what: str = "requests in a minute with this key",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_minute = per_minute
        self.what = what
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, client: str, cost: float = 1.0) -> float:
        """Count one request; 0.0, or the seconds to wait where the client has none left.

        At no cost it only says whether one is left.
        """
        if self.per_minute <= 0:
            return 0.0
        rate = self.per_minute / 60.0
        with self._lock:
            now = self._clock()
            left, since = self._buckets.pop(client, (float(self.per_minute), now))
            left = min(float(self.per_minute), left + (now - since) * rate)
            allowed = left >= 1.0
            self._buckets[client] = (left - cost if allowed else left, now)
            while len(self._buckets) > _CLIENTS_REMEMBERED:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / rate

    def check(self, client: str, cost: float = 1.0) -> None:
        """Count one request. Raises TooManyRequests, whose details say how long to wait."""
        wait = self.take(client, cost)
        if wait:
            seconds = max(1, round(wait + 0.5))
            raise TooManyRequests(
                f"more than {self.per_minute} {self.what}",
                hint=f"try again in {seconds} s",
                details={"retry_after": seconds},
            )


class BodyLimit:
    """ASGI middleware: unpacks gzip bodies while they arrive and stops at `limit` bytes.

    `exceptions` are limits of their own for paths. Nothing past the limit is ever held.
    """

    def __init__(
        self, app: ASGIApp, *, limit: int = 50 * MEGABYTE, exceptions: dict[str, int] | None = None
    ) -> None:
        self.app = app
        self._limit = limit
        self._exceptions = exceptions or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._exceptions.get(scope["path"], self._limit)
        headers = Headers(scope=scope)
        try:
            encoding = _encoding(headers)
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length) > limit:
                raise _too_large(limit)
        except KatiMLError as error:
            await answer_error(Request(scope), error)(scope, receive, send)
            return
        body = _Unpacked(receive) if encoding == "gzip" else receive
        await self.app(scope, _Counted(body, limit), send)


class _Counted:
    """`receive` of one request that stops past `limit` bytes."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = self._left = limit

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise _too_large(self._limit)
        return message


class _Unpacked:
    """`receive` of one gzip request; each message holds at most `_STEP` unpacked bytes, so that
    a bomb is noticed before it grows."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._unpacker = zlib.decompressobj(wbits=31)
        self._packed = b""
        self._more = True
        self._empty = True
        self._done = False

    async def __call__(self) -> Message:
        while not self._packed and self._more:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._packed = message.get("body", b"")
            self._more = message.get("more_body", False)
        if self._done:
            return await self._receive()
        try:
            body = self._unpack()
        except zlib.error as error:
            raise InvalidInput(
                "the body is not gzip, which its Content-Encoding says", details={"why": str(error)}
            ) from None
        self._done = not self._packed and not self._more
        return {"type": "http.request", "body": body, "more_body": not self._done}

    def _unpack(self) -> bytes:
        body = b""
        if self._packed:
            self._empty = False
            if self._unpacker.eof:
                # Several gzip members in a row are one file.
                self._unpacker = zlib.decompressobj(wbits=31)
            body = self._unpacker.decompress(self._packed, _STEP)
            ended = self._unpacker.eof
            self._packed = self._unpacker.unused_data if ended else self._unpacker.unconsumed_tail
        if not self._packed and not self._more and not self._empty:
            body += self._unpacker.flush()
            if not self._unpacker.eof:
                raise InvalidInput("the gzip body ends too early", hint="send it again, whole")
        return body


def _encoding(headers: Headers) -> str:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return "identity"
    if encoding in ("gzip", "x-gzip"):
        return "gzip"
    raise InvalidInput(
        f"Content-Encoding {encoding[:40]!r} is not read here",
        hint="send gzip, or no Content-Encoding; files to ingest may be gzip, bz2 or zstd inside",
    )


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit / MEGABYTE:g} MB",
        hint="send large data as a file: POST /api/ingestion/upload, then /api/ingestion/ingest",
    )
