"""A handful of rows as VALUES, which takes a quarter of the time of scanning Arrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from katiml.store.sql import identifier

__all__ = ["insert_values", "values_of"]

# Measured: 0.6 ms for a few rows against 2.6 ms; from about 30 rows on Arrow is faster.
_ROWS = 16
_CELLS = 256


def _is_simple(kind: pa.DataType) -> bool:
    """Whether Python values of this type reach DuckDB with the meaning the Arrow column has."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_simple(kind.value_type)
    return bool(
        pa.types.is_null(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or kind == pa.uuid()
        or (pa.types.is_timestamp(kind) and kind.tz == "UTC" and kind.unit == "us")
    )


def insert_values(table: str, rows: pa.Table) -> tuple[str, dict[str, Any]] | None:
    """The statement that inserts these rows, and its parameters; None where Arrow serves better.

    >>> insert_values("tags", pa.table({"name": ["a", None]}))
    ('INSERT INTO lake.tags ("name") VALUES ($v0_0), ($v1_0)', {'v0_0': 'a', 'v1_0': None})
    """
    if rows.num_rows > _ROWS or rows.num_rows * rows.num_columns > _CELLS:
        return None
    if not all(_is_simple(kind) for kind in rows.schema.types):
        return None
    parameters: dict[str, Any] = {}
    for column, values in enumerate(rows.columns):
        for row, value in enumerate(values.to_pylist()):
            parameters[f"v{row}_{column}"] = value
    names = ", ".join(f'"{identifier(name)}"' for name in rows.column_names)
    tuples = ", ".join(
        "(" + ", ".join(f"$v{row}_{column}" for column in range(rows.num_columns)) + ")"
        for row in range(rows.num_rows)
    )
    return f"INSERT INTO lake.{identifier(table)} ({names}) VALUES {tuples}", parameters


def values_of(name: str, rows: pa.Table) -> tuple[str, dict[str, Any]] | None:
    """These rows as what stands in a WITH under `name`, and its parameters.

    None where there are many, or of other types than texts, ids, integers and booleans.

    >>> values_of("chosen", pa.table({"id": ["a", "b"]}))
    ('chosen("id") AS (SELECT unnest(CAST($chosen_0 AS VARCHAR[])))', {'chosen_0': ['a', 'b']})
    """
    kinds = [_sql_type(kind) for kind in rows.schema.types]
    if rows.num_rows > _ROWS or None in kinds:
        return None
    parameters = {
        f"{identifier(name)}_{column}": values.to_pylist()
        for column, values in enumerate(rows.columns)
    }
    names = ", ".join(f'"{identifier(column)}"' for column in rows.column_names)
    columns = ", ".join(
        f"unnest(CAST(${parameter} AS {kind}[]))"
        for parameter, kind in zip(parameters, kinds, strict=True)
    )
    return f"{name}({names}) AS (SELECT {columns})", parameters


def _sql_type(kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return "VARCHAR"
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_int64(kind):
        return "BIGINT"
    return "UUID" if kind == pa.uuid() else None
