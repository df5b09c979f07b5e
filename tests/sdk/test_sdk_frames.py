"""Joining, grouping, encoding: what the SDK does without a lake."""

from __future__ import annotations

import base64
import datetime
import io
import json
import uuid
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pandas as pd
import pytest

from dioptra._encode import encode_record, encode_records
from dioptra.lake.utils import (
    _decode_to_np_array,
    _encode_np_array,
    group_by_uri,
    join_on_datapoints,
)
from katiml.errors import InvalidInput, InvalidRecord


@pytest.fixture
def datapoints() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"id": "1", "metadata": {"uri": "s"}},
            {"id": "2", "metadata": {"uri": "s"}},
            {"id": "3", "metadata": {"uri": "a"}},
        ]
    )


@pytest.fixture
def groundtruths() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"id": "g2", "datapoint": "2", "class_name": "y"},
            {"id": "g1", "datapoint": "1", "class_name": "x"},
            {"id": "g0", "datapoint": "2", "class_name": "z"},
        ]
    )


def test_join(datapoints: pd.DataFrame, groundtruths: pd.DataFrame) -> None:
    before = datapoints.copy(deep=True)
    joined = join_on_datapoints(datapoints, groundtruths)
    assert joined["groundtruths"][0] == [{"id": "g1", "class_name": "x"}]
    assert [row["id"] for row in joined["groundtruths"][1]] == ["g2", "g0"]
    assert np.isnan(joined["groundtruths"][2])
    assert "predictions" not in joined
    pd.testing.assert_frame_equal(datapoints, before)


def test_join__second_position_is_groundtruths(
    datapoints: pd.DataFrame, groundtruths: pd.DataFrame
) -> None:
    joined = join_on_datapoints(datapoints, groundtruths, groundtruths.iloc[:0])
    assert list(joined.columns) == ["id", "metadata", "predictions", "groundtruths"]
    assert joined["predictions"].isna().all()


def test_join__nothing_selected(datapoints: pd.DataFrame) -> None:
    joined = join_on_datapoints(datapoints, pd.DataFrame(), pd.DataFrame())
    assert joined["groundtruths"].isna().all()
    assert len(join_on_datapoints(datapoints.iloc[:0], pd.DataFrame())) == 0


def test_join__without_ids(datapoints: pd.DataFrame, groundtruths: pd.DataFrame) -> None:
    with pytest.raises(InvalidInput, match="no column 'id'"):
        join_on_datapoints(datapoints[["metadata"]], groundtruths)
    with pytest.raises(InvalidInput, match="no column 'datapoint'"):
        join_on_datapoints(datapoints, groundtruths[["id"]])


@pytest.mark.parametrize("workers", [1, 4])
def test_group(datapoints: pd.DataFrame, groundtruths: pd.DataFrame, workers: int) -> None:
    joined = join_on_datapoints(datapoints, groundtruths, groundtruths)
    before = joined.copy(deep=True)
    seen: dict[str, Any] = {}

    def transform(group: tuple[Any, ...]) -> dict[str, Any]:
        ids, metadatas, truths, guesses = group
        seen[metadatas[0]["uri"]] = (ids, metadatas, truths, guesses)
        return {"count": len(truths)}

    grouped = group_by_uri(joined, transform, num_workers=workers)
    assert list(grouped.index) == ["a", "s"] and grouped.index.name == "uri"
    assert list(grouped.columns) == [*joined.columns, "uri", "count"]
    assert grouped.loc["s", "id"] == ["1", "2"]
    assert [row["id"] for row in grouped.loc["s", "groundtruths"]] == ["g1", "g2", "g0"]
    assert list(grouped["count"]) == [0, 3]
    assert seen["a"] == (["3"], [{"uri": "a"}], [], [])
    pd.testing.assert_frame_equal(joined, before)


def test_group__without_attachments(datapoints: pd.DataFrame) -> None:
    grouped = group_by_uri(datapoints, lambda group: {"parts": len(group)})
    assert list(grouped["parts"]) == [2, 2]
    empty = group_by_uri(datapoints.iloc[:0], lambda group: {})
    assert len(empty) == 0


def test_group__transform_that_returns_no_dict(datapoints: pd.DataFrame) -> None:
    with pytest.raises(InvalidInput, match="returned list"):
        group_by_uri(datapoints, lambda group: [])  # type: ignore[arg-type, return-value]


def test_arrays__round_trip() -> None:
    for array in (
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.array([[0.5, -1.0]], np.float16),
        np.zeros((0, 3), np.float32),
        np.array(True),
    ):
        text = _encode_np_array(array, light_compression=True)
        found = _decode_to_np_array(text)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_arrays__pickle_is_refused() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    text = base64.b64encode(lz4.frame.compress(buffer.getvalue())).decode()
    with pytest.raises(InvalidInput):
        _decode_to_np_array(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        (np.bool_(True), "true"),
        (np.array([[1, 2], [3, 4]])[:, 1], "[2,4]"),
        (np.array([1.5], np.float16), "[1.5]"),
        (np.array(["a"]), '["a"]'),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05"'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        (uuid.UUID(int=0), '"00000000-0000-0000-0000-000000000000"'),
        (Path("a/b"), '"a/b"'),
        ((1, 2), "[1,2]"),
        (None, "null"),
        (2**70, str(2**70)),
    ],
)
def test_encode(value: Any, text: str) -> None:
    assert json.loads(encode_record({"key": value})) == {"key": json.loads(text)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.array([1, np.nan])])
def test_encode__what_is_no_number_stays_visible(value: Any) -> None:
    line = encode_record({"logits": value, "text": "é"}).decode()
    assert "NaN" in line or "Infinity" in line
    assert "null" not in line


def test_encode__error_names_the_record() -> None:
    with pytest.raises(InvalidRecord, match=r"records\[1\]") as caught:
        list(encode_records([{}, {"a": object()}]))
    assert caught.value.path == "[1]"


def test_encode__tensors() -> None:
    class Tensor:
        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> np.ndarray[Any, Any]:
            return np.array([1.0, 2.0])

    assert json.loads(encode_record({"logits": Tensor()})) == {"logits": [1.0, 2.0]}
