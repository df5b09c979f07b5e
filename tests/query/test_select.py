"""Selects: fields, attachments, order, pages, forms."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pytest

from katiml.errors import InvalidFilter, InvalidInput, NotFound
from katiml.query import Collection, select, select_json, to_pandas
from katiml.schema import RECORD_TABLES, TABLES
from katiml.store import Scope
from tests.query.rows import f, put

MOMENT = "2024-05-01T12:00:00.123456Z"


@pytest.fixture
def filled(scope: Scope) -> Scope:
    """Datapoints 0..5; 0 and 1 have attachments of several kinds."""
    ids = put(
        scope,
        "datapoints",
        [
            {
                "type": "IMAGE",
                "text": str(i),
                "metadata": {"uri": f"s3://b/{i}", "size": {"w": i}, "mixed": mixed},
                "timestamp": MOMENT,
                "row": i,
            }
            for i, mixed in enumerate([10, "b", 2, None, "a", True])
        ],
    )
    put(
        scope,
        "tags",
        [{"datapoint": ids[0], "name": name, "value": "v"} for name in ("t1", "t2", "t3")],
    )
    truths = put(
        scope,
        "groundtruths",
        [
            {"datapoint": ids[0], "task_type": "CLASSIFICATION", "class_name": "cat"},
            {"datapoint": ids[0], "task_type": "OBJECT_DETECTION", "metrics": {"area": 1.5}},
            {"datapoint": ids[1], "task_type": "CLASSIFICATION", "class_name": "dog"},
        ],
    )
    put(
        scope,
        "bboxes",
        [
            {"datapoint": ids[0], "groundtruth": truths[1], "class_name": "x", "top": 1.0},
            {"datapoint": ids[0], "groundtruth": truths[1], "coco_polygon": [1, 2, 3.5]},
        ],
    )
    return scope


def ids_of(scope: Scope, table: str = "datapoints") -> list[str]:
    return select(scope, table, fields="id").arrow()["id"].to_pylist()


# -- fields ----------------------------------------------------------------------------------


def test_a_star_is_every_visible_column(filled: Scope) -> None:
    for table in RECORD_TABLES:
        names = [column.name for column in TABLES[table].visible]
        assert select(filled, table).arrow().column_names == names
        assert select(filled, table, fields=[]).arrow().column_names == names
        assert select(filled, table, fields=f"{table}.*").pandas().columns.tolist() == names


def test_columns_come_in_the_order_asked_and_once(filled: Scope) -> None:
    fields = ["text", "groundtruths.class_name", "id", "text", "datapoints.type", "tags.name"]
    rows = select(filled, "datapoints", fields=[*fields, "groundtruths.id"]).pandas()
    assert rows.columns.tolist() == ["text", "groundtruths", "id", "type", "tags"]
    assert list(rows["groundtruths"][0][0]) == ["class_name", "id"]


def test_parts_of_json_are_named_as_asked(filled: Scope) -> None:
    fields = ["metadata.uri", "image_metadata.uri", "datapoints.metadata.size.w", "metadata.size"]
    rows = select(filled, "datapoints", fields=fields, limit=2).pandas()
    assert rows.to_dict("list") == {
        "metadata.uri": ["s3://b/0", "s3://b/1"],
        "image_metadata.uri": ["s3://b/0", "s3://b/1"],
        "metadata.size.w": [0, 1],
        "metadata.size": [{"w": 0}, {"w": 1}],
    }


@pytest.mark.parametrize("fields", [["colour"], ["groundtruths.colour"], ["colours.*"], [3], 3])
def test_unknown_fields_are_named(scope: Scope, fields: Any) -> None:
    with pytest.raises(InvalidFilter, match=r"colour|3"):
        select(scope, "datapoints", fields=fields)


# -- attachments -----------------------------------------------------------------------------


def test_two_attachment_tables_do_not_multiply(filled: Scope) -> None:
    fields = ["text", "tags.name", "groundtruths.task_type", "bboxes.class_name"]
    rows = select(filled, "datapoints", fields=fields).pandas().to_dict("records")
    assert rows[0] == {
        "text": "0",
        "tags": [{"name": "t1"}, {"name": "t2"}, {"name": "t3"}],
        "groundtruths": [{"task_type": "CLASSIFICATION"}, {"task_type": "OBJECT_DETECTION"}],
        "bboxes": [{"class_name": "x"}, {"class_name": None}],
    }
    assert rows[1]["tags"] == []
    assert rows[2:] == [
        {"text": str(i), "tags": [], "groundtruths": [], "bboxes": []} for i in range(2, 6)
    ]


def test_rows_that_pass_keep_all_their_attachments(filled: Scope) -> None:
    rows = select(
        filled, "datapoints", f("groundtruths.class_name", "=", "cat"), ["text", "groundtruths.*"]
    ).pandas()
    assert rows["text"].tolist() == ["0"]
    first, second = rows["groundtruths"][0]
    assert list(first) == [column.name for column in TABLES["groundtruths"].visible]
    assert second["metrics"] == {"area": 1.5}
    assert first["created_at"].endswith("Z")


def test_parents_come_as_lists_too(filled: Scope) -> None:
    rows = select(filled, "groundtruths", fields=["class_name", "datapoints.text"]).pandas()
    assert rows["datapoints"].tolist() == [[{"text": "0"}], [{"text": "0"}], [{"text": "1"}]]
    boxes = select(filled, "bboxes", fields=["groundtruths.task_type", "predictions.*"]).pandas()
    assert boxes["groundtruths"].tolist() == [[{"task_type": "OBJECT_DETECTION"}]] * 2
    assert boxes["predictions"].tolist() == [[], []]


def test_boxes_of_a_datapoint_name_their_owner(filled: Scope) -> None:
    fields = ["groundtruths.id", "bboxes.groundtruth", "bboxes.coco_polygon"]
    row = select(filled, "datapoints", f("text", "=", "0"), fields).pandas().iloc[0]
    assert {box["groundtruth"] for box in row["bboxes"]} == {row["groundtruths"][1]["id"]}
    assert [box["coco_polygon"] for box in row["bboxes"]] == [None, [1.0, 2.0, 3.5]]


def test_attachments_come_in_the_order_of_creation(filled: Scope) -> None:
    (id,) = put(filled, "datapoints", [{"text": "many"}])
    moments = [f"2024-01-{day:02}T00:00:00Z" for day in range(1, 29)]
    rows = [{"datapoint": id, "created_at": m, "value": m} for m in reversed(moments)]
    put(filled, "tags", rows)
    for arguments in ({}, {"limit": 100}, {"filters": f("id", "=", id)}):
        found = select(filled, "datapoints", fields=["tags.value"], **arguments)  # type: ignore[arg-type]
        assert [tag["value"] for tag in found.pandas()["tags"].iloc[-1]] == moments
        assert [tag["value"] for tag in orjson.loads(b"".join(found.json()))[-1]["tags"]] == moments


# -- order -----------------------------------------------------------------------------------


def texts(scope: Scope, **arguments: Any) -> list[str]:
    return select(scope, "datapoints", fields=["text"], **arguments).arrow()["text"].to_pylist()


def test_rows_come_as_they_were_created(filled: Scope) -> None:
    assert texts(filled) == ["0", "1", "2", "3", "4", "5"]
    assert texts(filled, desc=True) == ["5", "4", "3", "2", "1", "0"]


def test_order_by_columns_and_parts_of_json(filled: Scope) -> None:
    assert texts(filled, order_by="text", desc=True)[0] == "5"
    assert texts(filled, order_by="metadata.size.w", desc=True, limit=2) == ["5", "4"]
    assert texts(filled, order_by="datapoints.text", offset=4) == ["4", "5"]
    # Numbers by value, then texts, then what is missing, in both directions.
    assert texts(filled, order_by="metadata.mixed") == ["2", "0", "4", "1", "5", "3"]
    assert texts(filled, order_by="metadata.mixed", desc=True) == ["0", "2", "5", "1", "4", "3"]


def test_ties_are_broken_by_id(filled: Scope) -> None:
    for desc in (False, True):
        rows = select(filled, "datapoints", fields=["id"], order_by="type", desc=desc).arrow()
        assert rows["id"].to_pylist() == sorted(rows["id"].to_pylist(), reverse=desc)


def test_order_by_adds_no_column(filled: Scope) -> None:
    rows = select(filled, "datapoints", fields=["text"], order_by="metadata.size.w", limit=3)
    assert rows.arrow().column_names == ["text"]


@pytest.mark.parametrize("spelled", ["RANDOM()", "random()", "Random ( )", " RANDOM( ) "])
def test_random_order(filled: Scope, spelled: str) -> None:
    orders = {tuple(texts(filled, order_by=spelled)) for _ in range(20)}
    assert len(orders) > 1
    assert {tuple(sorted(order)) for order in orders} == {("0", "1", "2", "3", "4", "5")}
    assert len(texts(filled, order_by=spelled, limit=3)) == 3


def test_order_by_an_attachment_is_refused(filled: Scope) -> None:
    with pytest.raises(InvalidFilter, match="column of groundtruths") as raised:
        select(filled, "datapoints", order_by="groundtruths.class_name")
    assert "select groundtruths" in str(raised.value.hint)
    with pytest.raises(InvalidFilter, match="unknown order_by"):
        select(filled, "datapoints", order_by="random()) --")
    with pytest.raises(InvalidFilter, match="unknown order_by"):
        select(filled, "datapoints", order_by="text DESC")
    with pytest.raises(InvalidFilter, match="bytes"):
        select(filled, "feature_vectors", order_by="data")


# -- pages -----------------------------------------------------------------------------------


def test_limits_are_whole_numbers_and_desc_is_true_or_false(scope: Scope) -> None:
    for name in ("limit", "offset"):
        for value in (-1, True, False, "10", 1.5, [1], float("nan")):
            with pytest.raises(InvalidInput, match=name):
                select(scope, "datapoints", **{name: value})  # type: ignore[arg-type]
    for wrong in ("yes", 1, 0):
        with pytest.raises(InvalidInput, match="desc"):
            select(scope, "datapoints", desc=wrong)  # type: ignore[arg-type]


def test_limit_and_offset(filled: Scope) -> None:
    assert texts(filled, limit=2, offset=1) == ["1", "2"]
    assert texts(filled, limit=0) == []
    assert texts(filled, limit=10**30) == ["0", "1", "2", "3", "4", "5"]
    assert texts(filled, offset=10**30) == []
    assert texts(filled, limit=4, offset=100) == []
    empty = select(filled, "datapoints", fields=["id", "groundtruths.*"], limit=0).pandas()
    assert empty.columns.tolist() == ["id", "groundtruths"]


ORDERS: list[dict[str, Any]] = [
    {},
    {"desc": True},
    {"order_by": "text"},
    {"order_by": "metadata.mixed"},
    {"order_by": "metadata.mixed", "desc": True},
    {"order_by": "metadata.size.w", "desc": True},
    {"order_by": "timestamp"},
    {"order_by": "parent_datapoint"},
    {"order_by": "id", "desc": True},
    {"order_by": "row"},
]


@pytest.mark.parametrize("by", ["cursor", "id"])
def test_pages_join_into_the_whole(filled: Scope, by: str) -> None:
    for order in ORDERS:
        check_pages(filled, order, by)


def check_pages(filled: Scope, order: dict[str, Any], by: str) -> None:
    expected = select(filled, "datapoints", fields=["id"], **order).arrow()["id"].to_pylist()
    seen: list[str] = []
    after = None
    while True:
        page = select(filled, "datapoints", fields=["id"], limit=2, after=after, **order)
        seen += page.arrow()["id"].to_pylist()
        after = page.next_cursor
        if after is None or len(seen) > 6:
            break
        after = seen[-1] if by == "id" else after
    assert seen == expected, order


def test_pages_with_filters_and_attachments(filled: Scope) -> None:
    arguments: dict[str, Any] = {
        "filters": f("metadata.size.w", ">=", 1),
        "fields": ["text", "tags.*"],
        "order_by": "text",
        "limit": 2,
    }
    first = select(filled, "datapoints", **arguments).pandas()
    second = select(filled, "datapoints", **arguments, after=first.attrs["next_cursor"]).pandas()
    assert [*first["text"], *second["text"]] == ["1", "2", "3", "4"]
    last = select(filled, "datapoints", **arguments, after=second.attrs["next_cursor"]).pandas()
    assert last["text"].tolist() == ["5"]
    assert "next_cursor" not in last.attrs


def test_cursors_of_another_order_are_refused(filled: Scope) -> None:
    page = select(filled, "datapoints", order_by="text", limit=2)
    page.arrow()
    for arguments in ({}, {"order_by": "text", "desc": True}, {"order_by": "type"}):
        with pytest.raises(InvalidInput, match="another table or order"):
            select(filled, "datapoints", after=page.next_cursor, **arguments)
    with pytest.raises(InvalidInput, match="another table or order"):
        select(filled, "tags", after=page.next_cursor, order_by="name")
    with pytest.raises(InvalidInput, match="RANDOM"):
        select(filled, "datapoints", after=page.next_cursor, order_by="RANDOM()")
    with pytest.raises(NotFound, match="to continue after"):
        select(filled, "datapoints", after=ids_of(filled, "tags")[0])


@pytest.mark.parametrize(
    "cursor",
    ["x", "", "?", 3, base64.b64encode(b"[]").decode(), base64.b64encode(b"3").decode()],
)
def test_what_is_no_cursor_is_refused(scope: Scope, cursor: Any) -> None:
    with pytest.raises(InvalidInput, match="after is"):
        select(scope, "datapoints", after=cursor)


@pytest.mark.parametrize("values", [[None, None], ["'; --", "x"], [1], [True, "x"], [{}, []]])
def test_tampered_cursors_are_refused(scope: Scope, values: list[Any]) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps(["datapoints", "", False, values])).decode()
    with pytest.raises(InvalidInput, match="cursor"):
        select(scope, "datapoints", after=cursor)


def test_a_cursor_outlives_its_row(filled: Scope) -> None:
    page = select(filled, "datapoints", fields=["id"], limit=2)
    last = page.arrow()["id"][-1].as_py()
    Collection(filled, "datapoints").delete(f("id", "=", last))
    assert texts(filled, after=page.next_cursor) == ["2", "3", "4", "5"]


# -- forms -----------------------------------------------------------------------------------


def test_pandas_holds_python_objects(filled: Scope) -> None:
    rows = select(filled, "datapoints").pandas()
    assert isinstance(rows["id"][0], str)
    assert rows["metadata"][0] == {"uri": "s3://b/0", "size": {"w": 0}, "mixed": 10}
    assert isinstance(rows["created_at"].dtype, pd.DatetimeTZDtype)
    assert str(rows["created_at"].dtype.tz) == "UTC"
    assert rows["timestamp"][0] == pd.Timestamp(MOMENT)
    assert rows["parent_datapoint"].tolist() == [None] * 6
    boxes = select(filled, "bboxes", fields=["top", "coco_polygon"]).pandas()
    assert boxes["top"].dtype == "float64"
    assert boxes["coco_polygon"].tolist() == [None, [1.0, 2.0, 3.5]]
    numbers = select(filled, "datapoints", fields=["metadata.size.w"]).pandas()
    assert numbers["metadata.size.w"].dtype == "int64"


def test_arrow_keeps_nested_types(filled: Scope) -> None:
    table = select(filled, "datapoints", fields=["created_at", "metadata", "bboxes.*"]).arrow()
    assert table.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert pa.types.is_list(table.schema.field("bboxes").type)
    members = {field.name: field.type for field in table.schema.field("bboxes").type.value_type}
    assert pa.types.is_list(members["coco_polygon"])
    assert orjson.loads(table["metadata"][1].as_py())["uri"] == "s3://b/1"


def test_a_table_that_travelled_makes_the_same_frame(filled: Scope) -> None:
    fields = ["*", "groundtruths.*", "bboxes.metrics", "metadata.mixed"]
    selection = select(filled, "datapoints", fields=fields, limit=3)
    table = selection.arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    travelled = to_pandas(pa.ipc.open_stream(sink.getvalue()).read_all())
    pd.testing.assert_frame_equal(travelled, selection.pandas())
    assert travelled.attrs == {"next_cursor": selection.next_cursor}


def test_batches_are_the_rows(scope: Scope) -> None:
    put(scope, "datapoints", [{"text": str(i)} for i in range(10_000)])
    reader = select(scope, "datapoints", fields=["text", "tags.*"]).batches()
    batches = list(reader)
    assert len(batches) > 1
    assert pa.Table.from_batches(batches)["text"].to_pylist() == [str(i) for i in range(10_000)]
    assert reader.schema.names == ["text", "tags"]


def test_json_is_what_the_rows_are(filled: Scope) -> None:
    fields = ["*", "metadata.mixed", "groundtruths.*", "tags.name"]
    pieces = b"".join(select_json(filled, "datapoints", fields=fields))
    rows = orjson.loads(pieces)
    frame = select(filled, "datapoints", fields=fields).pandas()
    assert [row["id"] for row in rows] == frame["id"].tolist()
    assert [row["metadata"] for row in rows] == frame["metadata"].tolist()
    assert [row["groundtruths"] for row in rows] == frame["groundtruths"].tolist()
    assert [row["tags"] for row in rows] == frame["tags"].tolist()
    assert rows[1]["metadata.mixed"] == "b"
    assert rows[0]["timestamp"] == "2024-05-01T12:00:00.123Z"
    assert list(rows[0]) == frame.columns.tolist()
    assert rows[0]["parent_datapoint"] is None


@pytest.mark.parametrize("count", [0, 1, 2047, 9000])
def test_json_is_whole_at_any_size(scope: Scope, count: int) -> None:
    put(scope, "tags", [{"name": "n", "value": f'é"\\\n{i}'} for i in range(count)])
    rows = orjson.loads(b"".join(select_json(scope, "tags", fields=["value"])))
    assert rows == [{"value": f'é"\\\n{i}'} for i in range(count)]


def test_json_takes_limit_order_and_filters(filled: Scope) -> None:
    pieces = Collection(filled, "datapoints").select_json(
        f("text", "!=", "0"), ["text"], order_by="text", desc=True, limit=2
    )
    assert orjson.loads(b"".join(pieces)) == [{"text": "5"}, {"text": "4"}]


def test_vectors_come_encoded(scope: Scope) -> None:
    import numpy as np

    from katiml.records.arrays import decode

    vector = np.arange(6, dtype=np.float16).reshape(2, 3)
    row = {"type": "LOGITS", "dtype": "float16", "shape": [2, 3], "data": vector.tobytes()}
    put(scope, "feature_vectors", [row])
    found = select(scope, "feature_vectors").pandas()
    assert "data" not in found
    np.testing.assert_array_equal(decode(found["encoded_value"][0]), vector)


def test_forms_and_tables_are_checked(scope: Scope) -> None:
    with pytest.raises(InvalidInput, match="form is 'csv'"):
        Collection(scope, "datapoints").select(form="csv")  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="'settings' is not a table"):
        Collection(scope, "settings")


def test_a_collection_gives_every_form(filled: Scope) -> None:
    datapoints = Collection(filled, "datapoints")
    assert len(datapoints.select()) == 6
    assert datapoints.select(form="arrow").num_rows == 6
    assert sum(batch.num_rows for batch in datapoints.select(form="batches")) == 6
    assert repr(datapoints).startswith("Collection(")
