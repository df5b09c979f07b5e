"""Results as files: Parquet, CSV or JSON, in bounded memory, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import IO

import orjson
import pyarrow as pa

from katiml.errors import InvalidInput

__all__ = ["format_of", "write_rows", "write_stream"]

_FORMATS = (".parquet", ".csv", ".json")


def format_of(path: Path) -> str:
    """The format a file name asks for; InvalidInput for an unknown one.

    >>> format_of(Path("rows.parquet"))
    '.parquet'
    """
    if path.suffix.lower() not in _FORMATS:
        raise InvalidInput(
            f"cannot write {path.name!r}: unknown format {path.suffix or '(no ending)'!r}",
            hint="name the file .parquet, .csv or .json",
        )
    return path.suffix.lower()


def write_rows(path: Path, batches: pa.RecordBatchReader) -> int:
    """Write rows to a Parquet or CSV file; how many there were.

    Parts of JSON (`metadata.uri`) become plain texts and numbers. In CSV, lists and objects are
    written as JSON.
    """
    if format_of(path) == ".csv":
        with _whole_file(path) as stream:
            return _write_csv(stream, batches)
    with _whole_file(path) as stream:
        rows, numeric = _write_parquet(stream, batches)
    if numeric:
        _make_numeric(path, numeric)
    return rows


def write_stream(path: Path, chunks: Iterable[bytes]) -> None:
    """Write bytes to a file as they come."""
    with _whole_file(path) as stream:
        for chunk in chunks:
            stream.write(chunk)


def _write_csv(stream: IO[bytes], batches: pa.RecordBatchReader) -> int:
    rows = 0
    stream.write(_csv(pa.Table.from_batches([], batches.schema), header=True))
    for batch in batches:
        stream.write(_csv(pa.Table.from_batches([batch]), header=False))
        rows += batch.num_rows
    return rows


def _csv(table: pa.Table, *, header: bool) -> bytes:
    from katiml.query.frames import to_pandas

    frame = to_pandas(table)
    for name in frame.select_dtypes("object"):
        frame[name] = [
            orjson.dumps(value, default=str).decode() if isinstance(value, list | dict) else value
            for value in frame[name]
        ]
    text: str = frame.to_csv(index=False, header=header, lineterminator="\n")
    return text.encode()


def _write_parquet(stream: IO[bytes], batches: pa.RecordBatchReader) -> tuple[int, set[str]]:
    """How many rows there were, and which JSON columns hold nothing but numbers."""
    from pyarrow import parquet

    from katiml.query.frames import mark_json

    plain = [mark_json(field).metadata == field.metadata for field in batches.schema]
    numeric = {field.name for field, mine in zip(batches.schema, plain, strict=True) if mine}
    rows = 0
    with parquet.ParquetWriter(stream, batches.schema, compression="zstd") as writer:
        for batch in batches:
            columns = batch.columns
            for index, name in enumerate(batch.schema.names):
                if plain[index]:
                    columns[index], numbers = _plain(columns[index])
                    numeric -= set() if numbers else {name}
            writer.write_batch(pa.record_batch(columns, schema=batch.schema))
            rows += batch.num_rows
    return rows, numeric if rows else set()


def _plain(column: pa.Array) -> tuple[pa.Array, bool]:
    """JSON texts with strings unquoted; and whether all of them are numbers (or missing)."""
    texts = column.to_pylist()
    values = orjson.loads("[" + ",".join("null" if text is None else text for text in texts) + "]")
    numbers = set(map(type, values)) <= {int, float, NoneType}
    if numbers:
        return column, True
    plain = [
        value if isinstance(value, str) else text for value, text in zip(values, texts, strict=True)
    ]
    return pa.array(plain, column.type), False


def _make_numeric(path: Path, names: set[str]) -> None:
    """That a column holds only numbers is known at the end: then it is written once more."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as source, _whole_file(path) as stream:
        schema = pa.schema(
            [
                pa.field(field.name, pa.float64()) if field.name in names else field
                for field in source.schema_arrow
            ]
        )
        with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
            for batch in source.iter_batches():
                writer.write_batch(batch.cast(schema))


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            yield stream
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
