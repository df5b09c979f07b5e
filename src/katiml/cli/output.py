"""How results leave the command line: tables for people, JSON for programs, files for later."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from katiml.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

__all__ = [
    "cell",
    "check_output",
    "complain",
    "console",
    "json_rows",
    "messages",
    "print_chunks",
    "print_json",
    "show_rows",
    "show_values",
    "table_of",
    "write_file",
    "write_stream",
]

_FORMATS = (".parquet", ".csv", ".json")
_CELL = 48  # characters of one cell that a table shows
_HIDDEN = {"organization_id"}


def console() -> Console:
    """Where results go: standard output, wide when that is a file or a pipe."""
    from rich.console import Console

    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=200)


def messages() -> Console:
    """Where progress, questions and errors go, so that a pipe carries results only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def complain(message: str, hint: str | None = None) -> None:
    """Print an error as one sentence, and what to do about it."""
    from rich.text import Text

    messages().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        messages().print(Text.assemble(("hint: ", "bold"), hint), soft_wrap=True)


def cell(value: Any) -> str:
    """One value as a table shows it.

    >>> cell(0.123456), cell({"uri": "a.png"}), cell(None), cell(["x"] * 30)
    ('0.1235', '{"uri":"a.png"}', '', '["x","x","x","x","x","x","x","x","x","x","x","x…')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        value = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    text = value.isoformat(" ", "seconds") if hasattr(value, "isoformat") else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def table_of(rows: pa.Table, *, keep_empty: bool = False) -> RichTable:
    """Rows as a table for people. Columns without any value are left out unless `keep_empty`."""
    from rich.table import Table
    from rich.text import Text

    names = [
        name
        for name in rows.column_names
        if keep_empty or (name not in _HIDDEN and rows[name].null_count < rows.num_rows)
    ]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        numeric = pa.types.is_integer(rows[name].type) or pa.types.is_floating(rows[name].type)
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=name == "id")
    for row in rows.select(names).to_pylist():
        table.add_row(*(Text(cell(value)) for value in row.values()))
    return table


def show_rows(rows: pa.Table, *, note: str = "", keep_empty: bool = False) -> None:
    """Print rows as a table, and a note on what it leaves out."""
    if rows.num_rows == 0:
        messages().print("no rows", style="dim")
        return
    console().print(table_of(rows, keep_empty=keep_empty))
    if note:
        messages().print(note, style="dim")


def show_values(values: Mapping[str, Any]) -> None:
    """Print names and their values, one a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        shown = f"{value:,}" if type(value) is int else cell(value)
        table.add_row(Text(name.replace("_", " "), style="bold"), Text(shown))
    console().print(table)


def print_json(value: Any) -> None:
    """Print one value as indented JSON."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    _write(sys.stdout, orjson.dumps(value, default=str, option=options))


def print_chunks(chunks: Iterable[bytes]) -> None:
    """Print bytes as they come, without holding them."""
    for chunk in chunks:
        _write(sys.stdout, chunk)


def json_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """The rows of some batches as one JSON array, a batch at a time.

    >>> b"".join(json_rows([pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [3]})]))
    b'[{"a":1},{"a":2},{"a":3}]'
    """
    yield b"["
    comma = b""
    for batch in batches:
        if batch.num_rows:
            yield comma + orjson.dumps(batch.to_pylist(), default=str)[1:-1]
            comma = b","
    yield b"]"


def check_output(path: Path) -> str:
    """The format a file name asks for, before any work is done.

    >>> check_output(Path("rows.parquet"))
    '.parquet'
    """
    if path.suffix.lower() not in _FORMATS:
        raise InvalidInput(
            f"cannot write {path.name!r}: unknown format {path.suffix or '(no ending)'!r}",
            hint="name the file .parquet, .csv or .json",
        )
    return path.suffix.lower()


def write_file(path: Path, batches: pa.RecordBatchReader) -> int:
    """Write rows to a Parquet or CSV file in bounded memory; how many there were.

    The file appears whole or not at all. In CSV, lists and objects are written as JSON.
    """
    with _whole_file(path) as stream:
        return (_write_parquet if check_output(path) == ".parquet" else _write_csv)(stream, batches)


def write_stream(path: Path, chunks: Iterable[bytes]) -> None:
    """Write bytes to a file as they come. The file appears whole or not at all."""
    with _whole_file(path) as stream:
        for chunk in chunks:
            stream.write(chunk)


def _write_parquet(stream: IO[bytes], batches: pa.RecordBatchReader) -> int:
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(stream, batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_csv(stream: IO[bytes], batches: pa.RecordBatchReader) -> int:
    from pyarrow import csv

    schema = pa.schema(
        [(field.name, pa.string() if _nested(field) else field.type) for field in batches.schema]
    )
    rows = 0
    with csv.CSVWriter(stream, schema) as writer:
        for batch in batches:
            columns = [
                _as_json(column) if _nested(field) else column
                for field, column in zip(batch.schema, batch.columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            rows += batch.num_rows
    return rows


def _nested(field: pa.Field) -> bool:
    return bool(pa.types.is_nested(field.type))


def _as_json(column: pa.Array) -> pa.Array:
    return pa.array(
        [
            None if value is None else orjson.dumps(value, default=str).decode()
            for value in column.to_pylist()
        ],
        pa.string(),
    )


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            yield stream
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write(stream: IO[str], data: bytes) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a replaced standard output, as tests and notebooks have
        stream.write(data.decode())
    else:
        stream.flush()
        buffer.write(data)
        buffer.flush()
