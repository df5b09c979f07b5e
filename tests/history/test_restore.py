"""Putting deleted datapoints back by filters, ids and change, in both homes."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from katiml.errors import InvalidFilter, InvalidInput, NotFound
from katiml.lake import Lake

from .conftest import Writer


def tagged(value: str) -> list[dict[str, Any]]:
    return [{"left": "tags.value", "op": "=", "right": value}]


def test_filters_see_what_was_deleted_as_it_was(lake: Lake, writer: Writer) -> None:
    writer.new(2, tags={"split": "train"})
    writer.new(1, tags={"split": "test"}, text="mine")
    lake.datapoints.delete(all=True)
    assert lake.deleted.count(tagged("test")) == 1
    assert lake.deleted.select(tagged("test"), ["text", "tags.value"]).to_dict("records") == [
        {"text": "mine", "tags": [{"value": "test"}]}
    ]
    preview = lake.restore(tagged("train"), dry_run=True)
    assert preview.restored == {"datapoints": 2, "tags": 2}
    assert lake.datapoints.count() == 0
    assert lake.restore(tagged("train")).restored == preview.restored
    assert writer.tags() == ["train", "train"]
    assert lake.deleted.count() == 1


def test_by_ids(lake: Lake, writer: Writer) -> None:
    one, two, three = writer.new(3)
    lake.datapoints.delete(all=True)
    lake.restore(ids=one)
    lake.restore(ids=pd.DataFrame({"id": [two]}))
    assert sorted(lake.datapoints.select()["id"]) == sorted([one, two])
    with pytest.raises(NotFound, match=one):
        lake.restore(ids=[three, one])
    assert lake.datapoints.count() == 2
    lake.restore(ids=[three.upper()])
    assert lake.datapoints.count() == 3


def test_by_change(lake: Lake, writer: Writer) -> None:
    one, two = writer.new(2)
    lake.datapoints.delete({"left": "id", "op": "=", "right": one})
    change = writer.last()
    lake.datapoints.delete({"left": "id", "op": "=", "right": two})
    lake.restore(change=change)
    assert list(lake.datapoints.select()["id"]) == [one]
    assert lake.restore(change=change).is_empty
    assert lake.restore(change=999).is_empty


def test_only_what_went_with_them_comes_back(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(tags={"a": "1", "b": "2"})
    lake.tags.delete({"left": "name", "op": "=", "right": "a"})
    lake.datapoints.delete(all=True)
    lake.restore(ids=id_)
    assert writer.tags() == ["2"]


def test_again_and_again(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(
        tags={"a": "1"},
        predictions=[{"task_type": "CLASSIFICATION", "model_name": "m", "logits": [1.0, 0.0]}],
    )
    before = {table: writer.rows(table) for table in ("datapoints", "tags", "predictions")}
    for _ in range(3):
        lake.datapoints.delete(all=True)
        assert lake.deleted.count() == 1
        lake.restore(ids=id_)
        assert {table: writer.rows(table) for table in before} == before


def test_a_restore_can_be_undone(lake: Lake, writer: Writer) -> None:
    writer.new(2, tags={"a": "1"})
    lake.datapoints.delete(all=True)
    lake.restore(all=True)
    lake.undo()
    assert lake.datapoints.count() == 0
    lake.undo(writer.last())
    assert lake.datapoints.count() == 2


def test_with_what_was_made_of_them(lake: Lake, writer: Writer) -> None:
    (source,) = writer.new()
    writer.send({"type": "TEXT", "parent_datapoint": source, "text": "patch"})
    lake.datapoints.delete({"left": "id", "op": "=", "right": source})
    result = lake.restore([{"left": "text", "op": "=", "right": "patch"}])
    assert result.is_empty
    assert [(one.table, one.rows) for one in result.skipped] == [("datapoints", 1)]
    assert lake.restore(ids=source).restored == {"datapoints": 2}


def test_nothing_named_is_refused(lake: Lake) -> None:
    with pytest.raises(InvalidInput, match="which"):
        lake.restore()
    with pytest.raises(InvalidInput, match="which"):
        lake.restore([])


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": "x"},
        {"ids": 3},
        {"ids": [None]},
        {"change": "1"},
        {"change": True},
        {"filters": [{"left": "colour", "op": "=", "right": 1}]},
    ],
)
def test_wrong_values_are_said(lake: Lake, wrong: dict[str, Any]) -> None:
    with pytest.raises((InvalidInput, InvalidFilter)):
        lake.restore(**wrong)


def test_deleted_rows_cannot_be_deleted_again(lake: Lake, writer: Writer) -> None:
    writer.new()
    lake.datapoints.delete(all=True)
    with pytest.raises(InvalidInput, match="past"):
        lake.deleted.delete(all=True)


def test_organizations_restore_their_own(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new()
    lake.datapoints.delete(all=True)
    other = lake.for_organization("other")
    assert other.deleted.count() == 0
    with pytest.raises(NotFound):
        other.restore(ids=id_)
    with pytest.raises(NotFound):
        other.purge(ids=id_)
    assert lake.deleted.count() == 1
