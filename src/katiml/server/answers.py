"""Rows on their way out, as JSON or Arrow, in bounded memory.

JSON text is made by the database, Arrow batches go out as they come: no row ever becomes a
Python object here.
"""

from __future__ import annotations

import base64
import decimal
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

__all__ = ["ARROW", "arrow_chunks", "json_chunks", "json_response", "rows_response", "wants_arrow"]

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
ARROW = "application/vnd.apache.arrow.stream"


class _Buffer:
    """A file for Arrow's writer; what was written is taken away piece by piece."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """Nothing to do."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def arrow_chunks(batches: pa.RecordBatchReader) -> Iterator[bytes]:
    """An Arrow IPC stream, one chunk a batch.

    >>> table = pa.table({"id": [1, 2]})
    >>> stream = b"".join(arrow_chunks(table.to_reader()))
    >>> pa.ipc.open_stream(stream).read_all().equals(table)
    True
    """
    buffer = _Buffer()
    with pa.ipc.new_stream(pa.PythonFile(buffer, mode="w"), batches.schema) as writer:
        yield buffer.take()
        for batch in batches:
            writer.write_batch(batch)
            yield buffer.take()
    yield buffer.take()


def json_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """One JSON array of the rows, one chunk a batch; moments end in milliseconds and Z.

    >>> b"".join(json_chunks(pa.table({"id": [1], "share": [0.5]}).to_batches()))
    b'[{"id":1,"share":0.5}]'
    """
    separator = b"["
    for batch in batches:
        columns = [_iso(column) for column in batch.columns]
        names = batch.schema.names
        rows = [
            dict(zip(names, row, strict=True))
            for row in zip(*(column.to_pylist() for column in columns), strict=True)
        ]
        if rows:
            yield separator + orjson.dumps(rows, default=_plain, option=_OPTIONS)[1:-1]
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _iso(column: pa.Array) -> pa.Array:
    if not pa.types.is_timestamp(column.type):
        return column
    milliseconds = column.cast(pa.timestamp("ms", column.type.tz), safe=False)
    return pc.strftime(milliseconds, format="%Y-%m-%dT%H:%M:%SZ")


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def wants_arrow(request: Request) -> bool:
    """Whether the client asks for Arrow."""
    return ARROW in request.headers.get("accept", "").lower()


def rows_response(
    request: Request,
    as_json: Callable[[], Iterable[bytes]],
    as_arrow: Callable[[], pa.RecordBatchReader],
) -> Response:
    """Rows in the form the client asks for. What is wrong with the query is raised here, before
    the first byte goes out."""
    chunks: Iterable[bytes]
    if wants_arrow(request):
        chunks, media_type = arrow_chunks(as_arrow()), ARROW
    else:
        chunks, media_type = as_json(), "application/json"
    iterator = iter(chunks)
    head = list(itertools.islice(iterator, 2))
    headers = {"Vary": "Accept"}
    if len(head) < 2:
        return Response(b"".join(head), media_type=media_type, headers=headers)
    return StreamingResponse(
        itertools.chain(head, iterator), media_type=media_type, headers=headers
    )


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any small value.

    >>> json_response({"count": 3}).body
    b'{"count":3}'
    """
    body = orjson.dumps(value, default=_plain, option=_OPTIONS)
    return Response(body, status_code=status, media_type="application/json", headers=headers)
