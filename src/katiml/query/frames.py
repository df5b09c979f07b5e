"""Arrow tables of a select -> pandas, with Python objects where a value is nested.

Arrow carries JSON as text; a field's metadata says where (`mark_json`), so that a table that
travelled over HTTP becomes the same frame as one read in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from katiml.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["mark_json", "to_pandas"]

_KEY = b"katiml.json"
CURSOR = b"katiml.next_cursor"


def mark_json(field: pa.Field, members: Sequence[str] | None = None) -> pa.Field:
    """`field` marked as JSON text or, with `members`, as objects with such members."""
    return field.with_metadata({_KEY: orjson.dumps(True if members is None else list(members))})


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A result as pandas.

    Ids and texts are str, moments UTC timestamps, numbers NumPy columns; JSON, lists and
    attachments are Python objects (moments inside them ISO 8601 texts). What is missing is None,
    NaN or NaT. `attrs["next_cursor"]` is there when the table has one.

    >>> table = pa.table({"id": ["a"], "metadata": ['{"width": 2}']})
    >>> fields = [table.schema.field(0), mark_json(table.schema.field(1))]
    >>> to_pandas(table.cast(pa.schema(fields))).metadata[0]
    {'width': 2}
    """
    import pandas as pd

    columns = {
        field.name: _column(field, table.column(index)) for index, field in enumerate(table.schema)
    }
    frame = pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), columns=list(columns))
    cursor = (table.schema.metadata or {}).get(CURSOR)
    if cursor:
        frame.attrs["next_cursor"] = cursor.decode()
    return frame


def _column(field: pa.Field, values: pa.ChunkedArray) -> Any:
    import pandas as pd

    kind = values.type
    if pa.types.is_timestamp(kind):
        return values.to_pandas(date_as_object=False)
    if _is_simple(kind) and _KEY not in (field.metadata or {}):
        return values.to_pandas()
    marked = (field.metadata or {}).get(_KEY)
    members = orjson.loads(marked) if marked else ()
    objects: list[Any] = []
    try:
        for chunk in values.chunks:
            objects += _objects(chunk, members)
    except OverflowError:
        raise InvalidInput(
            f"{field.name} holds a moment before year 1 or after year 9999, which Python has not",
            hint="ask for form='arrow', or cast it to VARCHAR in the SQL",
        ) from None
    # Parts of JSON (metrics.entropy) may all be numbers.
    kinds = set(map(type, objects)) - {type(None)} if members is True else set()
    numeric = bool(kinds) and (kinds <= {int, float} or (kinds == {bool} and None not in objects))
    return pd.Series(objects) if numeric else pd.Series(objects, dtype=object)


def _is_simple(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _objects(values: pa.Array, members: Any) -> list[Any]:
    """The values as Python objects; `members` as `mark_json` wrote it."""
    kind = values.type
    if members is True:
        return [None if text is None else orjson.loads(text) for text in values.to_pylist()]
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        items = _structs(values.flatten(), members)
        return _sliced(values, items)
    if pa.types.is_struct(kind):
        return _structs(values, members)
    if pa.types.is_timestamp(kind):
        return _iso(values).to_pylist()  # type: ignore[no-any-return]
    return values.to_pylist()  # type: ignore[no-any-return]


def _structs(values: pa.StructArray, members: Sequence[str]) -> list[Any]:
    # Column by column, because objects made row by row take several times as long.
    names = [field.name for field in values.type]
    columns = [
        _objects(column, name in members) if name in members else _objects(column, ())
        for name, column in zip(names, values.flatten(), strict=True)
    ]
    made: Callable[[tuple[Any, ...]], dict[str, Any]] = lambda row: dict(  # noqa: E731
        zip(names, row, strict=True)
    )
    rows: list[Any] = [made(row) for row in zip(*columns, strict=True)]
    if values.null_count:
        valid = values.is_valid().to_pylist()
        rows = [row if there else None for row, there in zip(rows, valid, strict=True)]
    return rows


def _sliced(values: pa.ListArray, items: list[Any]) -> list[Any]:
    lengths = pc.fill_null(values.value_lengths(), 0).to_pylist()
    valid = values.is_valid().to_pylist()
    lists: list[Any] = []
    start = 0
    for length, there in zip(lengths, valid, strict=True):
        lists.append(items[start : start + length] if there else None)
        start += length
    return lists


def _iso(values: pa.Array) -> pa.Array:
    milliseconds = values.cast(pa.timestamp("ms", "UTC"), safe=False)
    return pc.strftime(milliseconds, format="%Y-%m-%dT%H:%M:%SZ")
