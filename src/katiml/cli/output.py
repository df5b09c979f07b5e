"""How results leave the command line: tables for people, JSON for programs, files for later."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

__all__ = [
    "cell",
    "complain",
    "console",
    "json_rows",
    "messages",
    "print_chunks",
    "print_json",
    "show_rows",
    "show_values",
    "table_of",
]

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


def cell(value: Any, width: int | None = _CELL) -> str:
    """One value as a table shows it, in at most `width` characters.

    >>> cell(0.123456), cell({"uri": "a.png"}), cell(None), cell(["x"] * 30)
    ('0.1235', '{"uri":"a.png"}', '', '["x","x","x","x","x","x","x","x","x","x","x","x…')
    """
    if value is None:
        return ""
    if type(value) is int and width is None:
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        value = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    text = value.isoformat(" ", "seconds") if hasattr(value, "isoformat") else str(value)
    text = " ".join(text.split())
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def table_of(rows: Sequence[Mapping[str, Any]], *, keep_empty: bool = False) -> RichTable:
    """Rows as a table for people. Columns without any value are left out unless `keep_empty`."""
    from rich.table import Table
    from rich.text import Text

    names = [
        name
        for name in rows[0]
        if keep_empty or (name not in _HIDDEN and any(row[name] is not None for row in rows))
    ]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=name == "id")
    for row in rows:
        table.add_row(*(Text(cell(row[name])) for name in names))
    return table


def show_rows(
    rows: Sequence[Mapping[str, Any]], *, note: str = "", keep_empty: bool = False
) -> None:
    """Print rows as a table, and a note on what it leaves out."""
    if not rows:
        messages().print("no rows", style="dim")
        return
    console().print(table_of(rows, keep_empty=keep_empty))
    if note:
        messages().print(note, style="dim")


def show_values(values: Mapping[str, Any]) -> None:
    """Print names and their values, one a line; values of a value are indented below it."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        label = Text(name.replace("_", " "), style="bold")
        table.add_row(label, Text("" if nested else cell(value, None)))
        for inner, number in value.items() if nested else ():
            table.add_row(f"  {inner}", cell(number, None))
    console().print(table, soft_wrap=True)


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


def _write(stream: IO[str], data: bytes) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a replaced standard output, as tests and notebooks have
        stream.write(data.decode())
    else:
        stream.flush()
        buffer.write(data)
        buffer.flush()
