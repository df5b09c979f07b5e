"""Rows arrive the same, whether few (as VALUES) or many (from Arrow)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from katiml.errors import InvalidInput
from katiml.store import Scope
from katiml.store.ids import uuid7
from katiml.store.small import insert_values

MANY = 40


def predictions(ids: pa.Array) -> pa.Table:
    count = len(ids)
    return pa.table(
        {
            "id": ids,
            "datapoint": pa.array([None] * count, pa.uuid()),
            "class_names": [["a", "b\"'{}$x"], []] * (count // 2),
            "confidences": pa.array([[0.5, float("inf")], None] * (count // 2)),
            "confidence": [0.1 + 0.2, None] * (count // 2),
            "top": list(range(count)),
            "metrics": ['{"entropy": 0.5}', None] * (count // 2),
            "model_name": ["ü\n\x1f", ""] * (count // 2),
            "created_at": [datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)] * count,
        }
    )


@pytest.mark.parametrize("count", [2, MANY])
def test_values_of_every_type_come_back(scope: Scope, count: int) -> None:
    rows = predictions(uuid7(count))
    assert (insert_values("predictions", rows) is None) == (count == MANY)
    scope.transact(lambda tx: tx.append("predictions", rows))
    names = ", ".join(f'"{name}"' for name in rows.column_names)
    found = scope.query(f"SELECT {names} FROM {{predictions}} ORDER BY id")
    assert found["id"].to_pylist() == [str(id) for id in rows["id"].to_pylist()]
    for name in rows.column_names[1:]:
        assert found[name].to_pylist() == rows[name].to_pylist(), name


@pytest.mark.parametrize("count", [2, MANY])
def test_vectors_come_back_encoded(scope: Scope, count: int) -> None:
    import numpy as np

    from katiml.records import arrays

    vector = np.arange(6, dtype="<f2").reshape(2, 3)
    rows = pa.table(
        {
            "id": uuid7(count),
            "dtype": ["<f2"] * count,
            "shape": pa.array([[2, 3]] * count, pa.list_(pa.int32())),
            "data": [vector.tobytes()] * count,
        }
    )
    scope.transact(lambda tx: tx.append("feature_vectors", rows))
    found = scope.query("SELECT data, shape, encoded_value FROM {feature_vectors}").to_pylist()
    assert len(found) == count
    for row in found:
        assert row["data"] == vector.tobytes() and row["shape"] == [2, 3]
        assert np.array_equal(arrays.decode(row["encoded_value"]), vector)


@pytest.mark.parametrize("count", [2, MANY])
@pytest.mark.parametrize(
    ("column", "value"),
    [("metadata", "{broken"), ("timestamp", "yesterday"), ("parent_datapoint", "x"), ("no", 1)],
)
def test_what_does_not_fit_is_invalid_input(
    scope: Scope, count: int, column: str, value: Any
) -> None:
    rows = pa.table({"id": uuid7(count), column: [value] * count})
    with pytest.raises(InvalidInput):
        scope.transact(lambda tx: tx.append("datapoints", rows))
    assert scope.query("SELECT id FROM {datapoints}").num_rows == 0


@pytest.mark.parametrize("count", [1, MANY])
def test_names_of_columns_are_no_sql(scope: Scope, count: int) -> None:
    rows = pa.table({"id": uuid7(count), 'x") VALUES (1); --': ["a"] * count})
    with pytest.raises(InvalidInput):
        scope.transact(lambda tx: tx.append("datapoints", rows))
