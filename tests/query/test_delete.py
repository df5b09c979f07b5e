"""Deletes: what goes with what, counts, pages, refusals."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from katiml.errors import InvalidFilter, InvalidInput
from katiml.query import Collection, count, delete, delete_rows, select
from katiml.schema import RECORD_TABLES
from katiml.store import Scope, Store
from tests.query.rows import f, put


def whole(scope: Scope, text: str, parent: str | None = None) -> str:
    """A datapoint with one row in every table; returns its id."""
    (id,) = put(scope, "datapoints", [{"text": text, "parent_datapoint": parent}])
    put(scope, "tags", [{"datapoint": id, "name": "text", "value": text}])
    (truth,) = put(scope, "groundtruths", [{"datapoint": id, "class_name": text}])
    (prediction,) = put(scope, "predictions", [{"datapoint": id, "model_name": text}])
    for owner in ({"groundtruth": truth}, {"prediction": prediction}):
        for table in ("bboxes", "lanes", "completions"):
            put(scope, table, [{"datapoint": id, **owner}])
    put(scope, "feature_vectors", [{"datapoint": id, "prediction": prediction, "type": "LOGITS"}])
    return id


def sizes(scope: Scope) -> dict[str, int]:
    return {table: count(scope, table) for table in RECORD_TABLES}


ONE = {
    "datapoints": 1,
    "tags": 1,
    "groundtruths": 1,
    "predictions": 1,
    "bboxes": 2,
    "lanes": 2,
    "completions": 2,
    "feature_vectors": 1,
}


def test_a_datapoint_goes_with_everything_on_it(scope: Scope) -> None:
    whole(scope, "a")
    whole(scope, "b")
    assert delete(scope, "datapoints", f("text", "=", "a")) == ONE
    assert sizes(scope) == ONE
    assert select(scope, "predictions").pandas()["model_name"].tolist() == ["b"]


def test_datapoints_made_from_it_go_too(scope: Scope) -> None:
    a = whole(scope, "a")
    child = whole(scope, "child", parent=a)
    whole(scope, "grandchild", parent=child)
    whole(scope, "b")
    assert delete(scope, "datapoints", f("id", "=", a)) == {name: 3 * n for name, n in ONE.items()}
    assert sizes(scope) == ONE


def test_datapoints_made_in_a_circle_go_once(scope: Scope) -> None:
    (a,) = put(scope, "datapoints", [{"text": "a"}])
    (b,) = put(scope, "datapoints", [{"text": "b", "parent_datapoint": a}])
    scope.transact(
        lambda tx: tx.update(
            "datapoints",
            "parent_datapoint = CAST($b AS UUID)",
            "id = CAST($a AS UUID)",
            {"a": a, "b": b},
        )
    )
    assert delete(scope, "datapoints", f("text", "=", "a"))["datapoints"] == 2


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "predictions",
            {"predictions": 1, "bboxes": 1, "lanes": 1, "completions": 1, "feature_vectors": 1},
        ),
        ("groundtruths", {"groundtruths": 1, "bboxes": 1, "lanes": 1, "completions": 1}),
        ("tags", {"tags": 1}),
    ],
)
def test_an_attachment_goes_with_its_own(
    scope: Scope, table: str, expected: dict[str, int]
) -> None:
    whole(scope, "a")
    whole(scope, "b")
    assert delete(scope, table, f("datapoints.text", "=", "a")) == expected
    left = {name: 2 * n - expected.get(name, 0) for name, n in ONE.items()}
    assert sizes(scope) == left


def test_filters_on_what_goes_too(scope: Scope) -> None:
    whole(scope, "a")
    whole(scope, "b")
    both = [
        f("tags.value", "=", "a"),
        f("bboxes.id", "is not null"),
        f("groundtruths.id", "is not"),
    ]
    assert delete(scope, "datapoints", both) == ONE
    assert sizes(scope) == ONE


def test_order_limit_and_offset_choose(scope: Scope) -> None:
    put(scope, "datapoints", [{"text": str(i)} for i in range(5)])
    assert delete(scope, "datapoints", None, "text", True, 2)["datapoints"] == 2
    assert delete(scope, "datapoints", None, limit=1, offset=1)["datapoints"] == 1
    assert select(scope, "datapoints").pandas()["text"].tolist() == ["0", "2"]
    assert delete(scope, "datapoints", limit=0)["datapoints"] == 0
    assert delete(scope, "datapoints", order_by="RANDOM()", limit=1)["datapoints"] == 1
    assert count(scope, "datapoints") == 1


@pytest.mark.parametrize("filters", [None, [], {"all": []}])
def test_everything_wants_to_be_asked_for(scope: Scope, filters: Any) -> None:
    whole(scope, "a")
    datapoints = Collection(scope, "datapoints")
    with pytest.raises(InvalidInput, match="all datapoints") as raised:
        datapoints.delete(filters)
    assert "all=True" in str(raised.value.hint)
    assert sizes(scope) == ONE
    assert datapoints.delete(filters, all=True) == ONE
    assert set(sizes(scope).values()) == {0}


def test_an_offset_alone_is_everything_but_a_few(scope: Scope) -> None:
    put(scope, "tags", [{"name": str(i)} for i in range(3)])
    with pytest.raises(InvalidInput, match="all=True"):
        delete(scope, "tags", offset=1)
    assert delete(scope, "tags", offset=1, all=True) == {"tags": 2}


def test_deleted_rows_are_answered(scope: Scope) -> None:
    whole(scope, "a")
    b = whole(scope, "b")
    rows, counts = delete_rows(scope, "datapoints", f("text", "=", "b"))
    (row,) = orjson.loads(rows)
    assert (row["id"], row["text"]) == (b, "b")
    assert counts == ONE
    assert delete_rows(scope, "datapoints", f("text", "=", "b"))[0] == b"[]"
    everything, _ = delete_rows(scope, "datapoints", [], all=True)
    assert len(orjson.loads(everything)) == 1


def test_a_wrong_filter_deletes_nothing(scope: Scope) -> None:
    whole(scope, "a")
    for filters in (f("colour", "=", 1), "text = 'a'", f("text", "in", "a")):
        with pytest.raises(InvalidFilter):
            delete(scope, "datapoints", filters, all=True)
    with pytest.raises(InvalidInput, match="limit"):
        delete(scope, "datapoints", limit=-1)
    assert sizes(scope) == ONE


def test_only_the_own_organization_loses_rows(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    id = whole(ours, "a")
    whole(theirs, "a")
    # Rows of theirs that name our ids.
    put(theirs, "tags", [{"datapoint": id}])
    put(theirs, "datapoints", [{"parent_datapoint": id}])
    assert delete(ours, "datapoints", f("text", "=", "a")) == ONE
    assert delete(ours, "datapoints", all=True)["datapoints"] == 0
    assert sizes(theirs) == {**ONE, "datapoints": 2, "tags": 2}
