"""What a careless or hostile caller may send: a clear answer, nothing lost or half-written."""

from __future__ import annotations

import base64
import io
import json
import pickle
from typing import Any

import lz4.frame
import numpy as np
import pytest

from katiml.errors import InvalidFilter, InvalidInput, KatiMLError
from katiml.lake import Lake
from katiml.records.arrays import encode
from katiml.schema import RECORD_TABLES

GOOD = {"type": "TEXT", "text": "good"}
NOBODY = "01234567-89ab-7def-8123-456789abcdef"


def prediction(**fields: Any) -> dict[str, Any]:
    return {"type": "IMAGE", "predictions": [{"task_type": "CLASSIFICATION", **fields}]}


def truth(**fields: Any) -> dict[str, Any]:
    return {"type": "IMAGE", "groundtruths": [{"task_type": "SEGMENTATION", **fields}]}


def packed(data: bytes) -> str:
    return base64.b64encode(lz4.frame.compress(data)).decode()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


PICKLED = packed(npy(np.array([{"a": 1}], dtype=object), allow_pickle=True))
HUGE = packed(npy(np.zeros((1 << 14, 1 << 14), np.uint8)))

RECORDS: dict[str, tuple[Any, str, str]] = {
    "a number": (5, "", "a record is an object"),
    "no type": ({"text": None}, "type", "needs a type"),
    "lower-case type": ({"type": "image"}, "type", "IMAGE"),
    "unknown task": (
        {"type": "IMAGE", "groundtruths": [{"task_type": "GUESSING"}]},
        "groundtruths[0].task_type",
        "task_type",
    ),
    "no task": ({"type": "IMAGE", "groundtruths": [{}]}, "groundtruths[0].task_type", "task_type"),
    "NaN logit": (prediction(logits=[1.0, float("nan")]), "predictions[0].logits[1]", "NaN"),
    "infinite metric": (
        prediction(metrics={"a": float("inf")}),
        "predictions[0].metrics.a",
        "nfinit",
    ),
    "ragged logits": (prediction(logits=[[1, 2], [3]]), "predictions[0].logits", ""),
    "text in logits": (prediction(logits=["a", "b"]), "predictions[0].logits", ""),
    "5-D logits": (
        prediction(logits=np.zeros((1, 1, 1, 1, 1)).tolist()),
        "predictions[0].logits",
        "",
    ),
    "lengths differ": (
        prediction(logits=[1, 2, 3], class_names=["a", "b"]),
        "predictions[0].logits",
        "3 classes",
    ),
    "mask is no base64": (
        truth(encoded_segmentation_class_mask="?"),
        "groundtruths[0].segmentation_class_mask",
        "base64",
    ),
    "mask holds a pickle": (
        truth(encoded_segmentation_class_mask=PICKLED),
        "groundtruths[0].segmentation_class_mask",
        "",
    ),
    "mask is a bomb": (
        truth(encoded_segmentation_class_mask=HUGE),
        "groundtruths[0].segmentation_class_mask",
        "limit",
    ),
    "mask is a pickle": (
        truth(encoded_segmentation_class_mask=packed(pickle.dumps([1]))),
        "groundtruths[0].segmentation_class_mask",
        "",
    ),
    "mask is 1-D": (
        truth(segmentation_class_mask=[1, 2]),
        "groundtruths[0].segmentation_class_mask",
        "",
    ),
    "truncated mask": (
        truth(encoded_segmentation_class_mask=encode(np.eye(50))[:40]),
        "groundtruths[0].segmentation_class_mask",
        "",
    ),
    "odd polygon": (
        truth(bboxes=[{"coco_polygon": [1, 2, 3, 4, 5, 6, 7]}]),
        "groundtruths[0].bboxes[0].coco_polygon",
        "7 numbers",
    ),
    "id is no id": ({"id": "' OR 1=1 --", "tags": {}}, "id", "id"),
    "nobody's id": ({"id": NOBODY, "tags": {"a": "b"}}, "id", f"no datapoint {NOBODY}"),
    "nobody's parent": (
        {"type": "IMAGE", "parent_datapoint": NOBODY},
        "parent_datapoint",
        "no datapoint",
    ),
    "attachment id on a new datapoint": (
        {"type": "IMAGE", "groundtruths": [{"id": NOBODY, "class_name": "x"}]},
        "groundtruths[0].id",
        "datapoint",
    ),
    "misspelt field": ({"type": "IMAGE", "tag": {}}, "tag", "tags"),
    "nested tag": ({"type": "IMAGE", "tags": {"a": {"b": 1}}}, "tags", ""),
    "metadata is a list": ({"type": "IMAGE", "metadata": [1]}, "metadata", "object"),
    "far away": (
        {"type": "IMAGE", "gps_coordinates": {"lat": 91, "long": 0}},
        "gps_coordinates.lat",
        "91",
    ),
    "no date": ({"type": "IMAGE", "timestamp": "yesterday"}, "timestamp", ""),
    "another organization": ({**GOOD, "organization_id": "acme"}, "organization_id", "acme"),
    "unknown preprocessor": (
        {"type": "IMAGE", "_preprocessor": {"type": "blur"}},
        "_preprocessor",
        "patch_sample",
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_is_rejected_alone(lake: Lake, name: str) -> None:
    record, path, reason = RECORDS[name]
    for source in ([GOOD, record, GOOD], _as_file(GOOD, record, GOOD)):
        upload = lake.ingest(source).wait(60)
        assert upload.status == "SUCCEEDED"
        assert upload.counts == {"read": 3, "landed": 2, "rejected": 1}
        (row,) = upload.rejected.to_dict("records")
        assert row["line"] == 2
        assert row["path"].startswith(path), row
        assert reason in row["reason"], row
        assert row["record"]
    status = lake.status()["rows"]
    assert status["datapoints"] == 4
    assert sum(status.values()) == 4


def _as_file(*records: Any) -> bytes:
    return b"\n".join(json.dumps(record).encode() for record in records)


def test_ids_of_another_organization(lake: Lake) -> None:
    other = lake.for_organization("other")
    other.ingest([{"type": "IMAGE", "groundtruths": [{"task_type": "NER", "class_name": "x"}]}])
    foreign = other.datapoints.select()["id"].item()
    truth_id = other.groundtruths.select()["id"].item()
    lake.ingest([{"type": "IMAGE"}])
    own = lake.datapoints.select()["id"].item()
    upload = lake.ingest(
        [
            {"id": foreign, "tags": {"stolen": "yes"}},
            {"id": own, "groundtruths": [{"id": truth_id, "class_name": "y"}]},
            {"type": "IMAGE", "parent_datapoint": foreign},
        ]
    )
    assert upload.counts == {"read": 3, "landed": 0, "rejected": 3}
    assert other.tags.count() == 0
    assert other.groundtruths.select()["class_name"].item() == "x"
    assert lake.datapoints.delete({"left": "id", "op": "=", "right": foreign})["datapoints"] == 0
    assert other.datapoints.count() == 1


SQL = "'; DROP TABLE lake.datapoints; --"


@pytest.mark.parametrize(
    "filters",
    [
        "tags",
        5,
        [5],
        [[]],
        {"left": "id"},
        {"left": "id", "op": "=", "right": 1, "extra": 2},
        {"left": SQL, "op": "=", "right": 1},
        {"left": f"tags.{SQL}", "op": "=", "right": 1},
        {"left": f"{SQL}.name", "op": "=", "right": 1},
        {"left": "id", "op": SQL, "right": 1},
        {"left": None, "op": "=", "right": 1},
        {"left": "id", "op": None, "right": 1},
        {"left": "id", "op": "in", "right": "abc"},
        {"left": "id", "op": "between", "right": [1]},
        {"left": "metrics", "op": "=", "right": 1},
        {"left": "type", "op": "=", "right": {"a": 1}},
        {"left": "metadata.a", "op": ">", "right": float("nan")},
        {"any": 5},
        {"exists": "passwords", "where": []},
        {"exists": SQL, "where": []},
    ],
)
def test_a_wrong_filter(lake: Lake, filters: Any) -> None:
    lake.ingest([GOOD])
    for read in (lake.datapoints.select, lake.datapoints.count, lake.datapoints.delete):
        with pytest.raises(InvalidFilter) as raised:
            read(filters)
        assert raised.value.message
    assert lake.datapoints.count() == 1


@pytest.mark.parametrize("left", ["text", "metadata.uri", "tags.value", "id", "created_at"])
@pytest.mark.parametrize("op", ["=", "!=", "like", "in", "not in"])
def test_sql_on_the_right_is_a_value(lake: Lake, left: str, op: str) -> None:
    lake.ingest([GOOD])
    right: Any = [SQL] if op.endswith("in") else SQL
    try:
        lake.datapoints.select({"left": left, "op": op, "right": right})
    except InvalidFilter:
        assert left == "created_at"
    assert lake.datapoints.count() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"limit": -1},
        {"limit": "ten"},
        {"limit": True},
        {"offset": -1},
        {"order_by": "groundtruths.class_name"},
        {"order_by": SQL},
        {"order_by": "nothing"},
        {"fields": ["nothing"]},
        {"fields": [SQL]},
        {"fields": ["groundtruths.nothing"]},
        {"after": "no cursor"},
        {"form": "xml"},
    ],
)
def test_a_wrong_select(lake: Lake, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        lake.datapoints.select(**options)


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE datapoints",
        "DELETE FROM datapoints",
        "SELECT 1; SELECT 2",
        "SELECT * FROM lake.main.datapoints",
        "SELECT * FROM api_keys",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY datapoints TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/other.duckdb'",
        "SELECT getenv('HOME')",
        "SELECT * FROM duckdb_settings()",
        "PRAGMA database_list",
        "SET memory_limit = '1MB'",
        "not sql at all",
        "",
    ],
)
def test_sql_that_is_no_reading_statement(lake: Lake, query: str) -> None:
    with pytest.raises(KatiMLError):
        lake.sql(query)


def test_empty_filters_delete_nothing_unasked(lake: Lake) -> None:
    lake.ingest([GOOD])
    for nothing in (None, [], {"all": []}):
        with pytest.raises(InvalidInput, match="all"):
            lake.datapoints.delete(nothing)
    assert lake.datapoints.delete(all=True)["datapoints"] == 1
    assert set(lake.status()["rows"]) == set(RECORD_TABLES)
