"""A multipart body -> an object of the lake, piece by piece, never whole in memory."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from katiml.errors import InvalidInput

__all__ = ["store_file"]

_QUEUE = 8
_PIECE_BYTES = 1 << 18
_HINT = "send multipart/form-data with one part named file: curl -F file=@records.ndjson …"


async def store_file(
    content_type: str, chunks: AsyncIterator[bytes], store: Callable[[Any], str]
) -> str:
    """Give the part named `file` to `store` while it arrives; returns what `store` returns.

    `store` runs in a thread and is given a readable binary file. Raises InvalidInput where the
    body has no such part, or ends early; then `store` is made to fail, so that it keeps nothing.
    """
    pieces: asyncio.Queue[bytes | Exception] = asyncio.Queue(_QUEUE)
    pipe = _Pipe(asyncio.get_running_loop(), pieces)
    parser = _FilePart(content_type)
    storing: asyncio.Future[str] | None = None
    try:
        async for chunk in chunks:
            parser.feed(chunk)
            if storing is None and parser.found:
                storing = asyncio.ensure_future(asyncio.to_thread(store, pipe))
            if storing is not None and parser.size >= _PIECE_BYTES:
                await _put(pieces, parser.take(), storing)
        parser.check_whole()
        if storing is None:
            storing = asyncio.ensure_future(asyncio.to_thread(store, pipe))
        await _put(pieces, parser.take(), storing)
        await _put(pieces, b"", storing)
        return await storing
    except BaseException as error:
        if storing is not None and not storing.done():
            await _abort(pieces, storing, error)
        raise


async def _put(
    pieces: asyncio.Queue[bytes | Exception], piece: bytes, storing: asyncio.Future[str]
) -> None:
    """Hand one piece over; where the storing ended meanwhile, its error is raised."""
    putting = asyncio.ensure_future(pieces.put(piece))
    either: set[asyncio.Future[Any]] = {putting, storing}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not putting.done():
        putting.cancel()
        storing.result()


async def _abort(
    pieces: asyncio.Queue[bytes | Exception], storing: asyncio.Future[str], error: BaseException
) -> None:
    while not pieces.empty():
        pieces.get_nowait()
    pieces.put_nowait(OSError(f"the upload was cut off: {type(error).__name__}"))
    await asyncio.gather(storing, return_exceptions=True)


class _Pipe(io.RawIOBase):
    """The reading end, for a thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[bytes | Exception]
    ) -> None:
        self._loop = loop
        self._pieces = pieces
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_PIECE_BYTES), b""))
        while not self._rest and not self._ended:
            piece = asyncio.run_coroutine_threadsafe(self._pieces.get(), self._loop).result()
            if isinstance(piece, Exception):
                raise piece
            self._rest, self._ended = piece, not piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class _FilePart:
    """The part named `file` of a multipart body."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidInput("the upload is not multipart/form-data", hint=_HINT)
        self.found = False
        self.size = 0
        self._data: list[bytes] = []
        self._inside = self._whole = False
        self._name = self._value = b""
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise InvalidInput(f"the multipart body is broken: {error}", hint=_HINT) from None

    def take(self) -> bytes:
        data = b"".join(self._data)
        self._data.clear()
        self.size = 0
        return data

    def check_whole(self) -> None:
        if not self.found:
            raise InvalidInput("the multipart body has no part named file", hint=_HINT)
        if not self._whole:
            raise InvalidInput("the multipart body ends too early", hint="send it again, whole")

    def _begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        named = parse_options_header(self._disposition)[1].get(b"name") == b"file"
        self._inside = named and not self.found
        self.found = self.found or named

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._data.append(data[start:end])
            self.size += end - start

    def _part_end(self) -> None:
        self._inside = False

    def _end(self) -> None:
        self._whole = True
