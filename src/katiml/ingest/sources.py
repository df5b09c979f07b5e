"""Bytes of any origin -> blocks of whole lines of JSON, told apart by content, in bounded memory.

Newline-delimited JSON (`\\n`, `\\r\\n` or `\\r`), a JSON array, or Parquet; plain, gzip, bz2 or
zstd.

>>> import io
>>> [block.text for block in read_blocks(io.BytesIO(b'[{"type": "TEXT"}, 5]'))]
[b'{"type": "TEXT"}\\n5\\n']
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from katiml.errors import InvalidSource

__all__ = ["BLOCK_BYTES", "MAX_LINE_BYTES", "Block", "read_blocks"]

BLOCK_BYTES = 1 << 21
MAX_LINE_BYTES = 64 << 20
_READ_BYTES = 1 << 20
# A real upload compresses 5 to 50 times; a bomb of zeros 1,000 times and more.
_BOMB_BYTES = 256 << 20
_BOMB_RATIO = 250


@dataclass(frozen=True)
class Block:
    """Whole lines that end with a newline, or parsed items; `first` is the number of the first."""

    first: int
    text: bytes = b""
    items: list[Any] | None = None
    # Lines that were too long to keep: (number, reason).
    dropped: tuple[tuple[int, str], ...] = ()

    @cached_property
    def after(self) -> int:
        """The number of the first line of the block that follows."""
        if self.items is not None:
            return self.first + len(self.items)
        return self.first + self.text.count(b"\n") + len(self.dropped)


class Meter(io.RawIOBase):
    """A readable file that counts the bytes taken from `raw`, for progress."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._ahead = b""
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        size = size if size >= 0 else _READ_BYTES
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        data = self._raw.read(size)
        self.bytes_read += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Give `data` back, to be read again."""
        self._ahead = data + self._ahead

    def readable(self) -> bool:
        """Yes."""
        return True


def read_blocks(
    raw: BinaryIO | Meter, *, block_bytes: int = BLOCK_BYTES, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Block]:
    """Yield the records of an open binary file as blocks, in order.

    A line above `max_line_bytes` is dropped with its number; the rest goes on.

    Raises:
        InvalidSource: the compression or the JSON array is broken, or a decompression bomb.
    """
    chunks = _decompressed(raw if isinstance(raw, Meter) else Meter(raw))
    head = _head(chunks)
    if head[:4] == b"PAR1":
        yield from _parquet_blocks(head, chunks)
    elif head.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] == b"[":
        yield from _array_blocks(head, chunks, block_bytes, max_line_bytes)
    else:
        yield from _line_blocks(head, chunks, block_bytes, max_line_bytes)


def _head(chunks: Iterator[bytes]) -> bytes:
    """Enough bytes to see past leading white space."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4 and head.strip():
            break
        if len(head) > MAX_LINE_BYTES:
            raise InvalidSource("the file begins with more than 64 MB of white space")
    return head


_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}


def _decompressed(meter: Meter) -> Iterator[bytes]:
    head = meter.read(4)
    codec = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)
    meter.unread(head)
    if codec is None:
        while data := meter.read():
            yield data
        return
    stream = pa.CompressedInputStream(pa.PythonFile(meter, mode="r"), codec)
    total = 0
    while True:
        try:
            data = stream.read(_READ_BYTES)
        except OSError as error:
            raise InvalidSource(
                f"the {codec} stream is broken after {meter.bytes_read:,} bytes: {error}",
                hint="compress the file again; the upload says how many records landed before",
            ) from error
        if not data:
            return
        total += len(data)
        if total > _BOMB_BYTES and total > _BOMB_RATIO * meter.bytes_read:
            raise InvalidSource(
                f"{meter.bytes_read:,} {codec} bytes inflate to more than {total:,}",
                hint="it looks like a decompression bomb; send the file uncompressed if it is not",
            )
        yield data


def _line_blocks(
    head: bytes, chunks: Iterator[bytes], block_bytes: int, max_line_bytes: int
) -> Iterator[Block]:
    first, rest, skipping = 1, head.removeprefix(b"\xef\xbb\xbf"), False
    first_bytes = _READ_BYTES
    ended = False
    while not ended:
        pieces, size = [rest], len(rest)
        # Doubling keeps the cost of a long line linear. Small blocks first: the next stage starts
        # early, and large ones cost less a record.
        wanted = max(min(block_bytes, first_bytes), 2 * size)
        first_bytes *= 2
        for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= wanted:
                break
        else:
            ended = True
        if ended:
            text, rest = b"".join(pieces), b""
            text += b"" if text.endswith((b"\n", b"\r")) or not text else b"\n"
        else:
            text, rest = _whole_lines(pieces)
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if skipping and text:
            end = text.index(b"\n") + 1
            text, skipping = text[end:], False
            yield Block(
                first, dropped=((first, f"the line is longer than {max_line_bytes:,} bytes"),)
            )
            first += 1
        if text:
            block = Block(first, text)
            first = block.after
            yield block
        if skipping or len(rest) > max_line_bytes:
            skipping, rest = True, b""
    if skipping:
        yield Block(first, dropped=((first, f"the line is longer than {max_line_bytes:,} bytes"),))


def _whole_lines(pieces: list[bytes]) -> tuple[bytes, bytes]:
    """(What ends with a line, what is left of the next one)."""
    end = _last_end(pieces[-1])
    if end:
        # Copied once, to where it stays.
        return b"".join([*pieces[:-1], memoryview(pieces[-1])[:end]]), pieces[-1][end:]
    text = b"".join(pieces)
    end = _last_end(text)
    return text[:end], text[end:]


def _last_end(text: bytes) -> int:
    # A lone \r at the very end may be the first half of \r\n.
    return max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1


def _array_blocks(
    head: bytes, chunks: Iterator[bytes], block_bytes: int, max_item_bytes: int
) -> Iterator[Block]:
    """Cut `[item, item, …]` into one line an item."""
    text, first = head.lstrip(b" \t\r\n\xef\xbb\xbf")[1:], 1
    while True:
        pieces, size = [text], len(text)
        wanted = max(block_bytes, 2 * size)
        for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= wanted:
                break
        else:
            # Small arrays and the tail of large ones: one pass in C.
            yield from _last_items(b"".join(pieces), first)
            return
        text = b"".join(pieces)
        position, items = _whole_items(text)
        text = text[position:]
        if items:
            block = Block(first, b"\n".join(items) + b"\n")
            first = block.after
            yield block
        elif len(text) > max_item_bytes:
            raise InvalidSource(
                f"item {first} of the JSON array is broken, or longer than {max_item_bytes:,} bytes"
            )


def _last_items(text: bytes, first: int) -> Iterator[Block]:
    if first > 1:
        text = text.lstrip(b" \t\r\n").removeprefix(b",")
    try:
        items = msgspec.json.decode(b"[" + text, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        _, lines = _whole_items(text)
        if lines:
            yield Block(first, b"\n".join(lines) + b"\n")
        raise InvalidSource(
            f"the JSON array is broken at item {first + len(lines)}: {error}",
            hint="send one record a line, and only the broken one is rejected",
        ) from error
    if items:
        yield Block(first, b"".join(_one_line(bytes(item)) + b"\n" for item in items))


def _whole_items(data: bytes) -> tuple[int, list[bytes]]:
    """The complete items at the start of `data`, each on one line, and where they end."""
    scan = json.JSONDecoder().raw_decode
    text = data.decode("utf-8", "surrogateescape")
    items: list[bytes] = []
    position = end = 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        try:
            _, stop = scan(text, position)
        except (ValueError, RecursionError):
            break
        # A number at the very end may go on in the next chunk.
        if stop >= len(text):
            break
        items.append(_one_line(text[position:stop].encode("utf-8", "surrogateescape")))
        position = end = stop
    return len(text[:end].encode("utf-8", "surrogateescape")), items


def _one_line(item: bytes) -> bytes:
    # Raw newlines are white space in JSON: inside strings they must be escaped.
    return (
        item.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in item or b"\r" in item else item
    )


def _parquet_blocks(head: bytes, chunks: Iterator[bytes]) -> Iterator[Block]:
    """Parquet wants random access: the stream goes to a temporary file first."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as spool:
        spool.write(head)
        for chunk in chunks:
            spool.write(chunk)
        spool.seek(0)
        first = 1
        try:
            for batch in pq.ParquetFile(spool).iter_batches(batch_size=2_000):
                items = [_without_nulls(row) for row in batch.to_pylist()]
                yield Block(first, items=items)
                first += len(items)
        except (pa.ArrowException, OSError) as error:
            raise InvalidSource(f"the Parquet file is broken: {error}") from error


def _without_nulls(value: Any, name: str = "") -> Any:
    """Parquet has no way to leave a field out, so its nulls mean absent; maps arrive as pairs."""
    if isinstance(value, dict):
        return {key: _without_nulls(item, key) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return {key: _without_nulls(item, key) for key, item in value}
        return (
            [_without_nulls(item) for item in value]
            if value and isinstance(value[0], dict | list)
            else value
        )
    if isinstance(value, str) and name in (
        "metadata",
        "tags",
        "metrics",
        "groundtruths",
        "predictions",
    ):
        # Frameworks without nested columns keep these as JSON text.
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
