"""Rows for query tests, written straight into the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from katiml.schema import TABLES
from katiml.store import Scope
from katiml.store.ids import uuid7_strings


def put(scope: Scope, table: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Append rows given as dicts, JSON columns as objects; returns their ids."""
    listed = [dict(row) for row in rows]
    for row, id in zip(listed, uuid7_strings(len(listed)), strict=True):
        row.setdefault("id", id)
    columns = TABLES[table].columns
    names = [name for name in columns if any(name in row for row in listed)]
    data = pa.table({name: _column(columns[name].type, listed, name) for name in names})
    scope.transact(lambda tx: tx.append(table, data))
    return [row["id"] for row in listed]


def _column(kind: str, rows: list[dict[str, Any]], name: str) -> pa.Array:
    values = [row.get(name) for row in rows]
    if kind == "JSON":
        values = [None if value is None else json.dumps(value) for value in values]
    types = {
        "DOUBLE": pa.float64(),
        "BIGINT": pa.int64(),
        "VARCHAR[]": pa.list_(pa.string()),
        "DOUBLE[]": pa.list_(pa.float64()),
        "INTEGER[]": pa.list_(pa.int32()),
        "BLOB": pa.binary(),
        "TIMESTAMPTZ": pa.timestamp("us", "UTC") if not isinstance(values[0], str) else pa.string(),
    }
    return pa.array(values, types.get(kind, pa.string()))


def f(left: str, op: str, right: Any = None) -> dict[str, Any]:
    """A filter."""
    return {"left": left, "op": op, "right": right}
