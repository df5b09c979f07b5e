"""Datasets and their members: made, found, filled, emptied, named, deleted."""

from __future__ import annotations

import uuid
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from katiml.datasets import Dataset
from katiml.errors import Conflict, InvalidFilter, InvalidInput, NotFound
from katiml.lake import Lake
from tests.datasets.conftest import EVEN, texts


def test_a_dataset_is_found_by_name_and_by_id(lake: Lake) -> None:
    train, test = lake.datasets.create("train"), lake.datasets.create("test")
    assert lake.datasets.get("train") == train
    assert lake.datasets.get(test.id) == test
    assert lake.datasets.get(test.id[:6]) == test
    assert lake.datasets.get(test.id.upper()) == test
    assert lake.datasets.get_or_create("train") == train
    assert lake.datasets.get_or_create("new").name == "new"
    assert [one.name for one in lake.datasets.list()] == ["train", "test", "new"]


def test_what_is_not_there_is_not_found(lake: Lake) -> None:
    for name in ("nothing", "abcdef01", str(uuid.uuid4()), "train'; --"):
        with pytest.raises(NotFound):
            lake.datasets.get(name)
    for wrong in ("", None, 7, "a\0"):
        with pytest.raises(InvalidInput):
            lake.datasets.get(wrong)  # type: ignore[arg-type]


def test_a_name_is_a_text_that_can_be_shown(lake: Lake) -> None:
    names: list[Any] = ["", "  ", None, 7, "x" * 201, "a\0b", "a\nb", "\ud800"]
    for name in names:
        with pytest.raises(InvalidInput):
            lake.datasets.create(name)
    assert lake.datasets.list() == []


def test_a_second_dataset_of_one_name_is_made_with_a_warning(lake: Lake) -> None:
    first = lake.datasets.create("train")
    with pytest.warns(UserWarning, match="named 'train' too"):
        second = lake.datasets.create("train")
    assert first != second
    with pytest.warns(UserWarning, match="2 datasets are named 'train'"):
        assert lake.datasets.get("train") == first
    assert lake.datasets.get_or_create("train") == first
    second.rename("other")
    with pytest.warns(UserWarning, match="named 'train' too"):
        lake.datasets.rename("other", "train")


def test_rename_and_delete(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids)
    version = dataset.commit("all")
    dataset.rename("animals")
    assert lake.datasets.get("animals") == dataset and dataset.name == "animals"
    lake.datasets.delete("animals")
    assert lake.datasets.list() == []
    for ask in (dataset.status, lambda: dataset.add(ids), lambda: lake.datasets.get(dataset.id)):
        with pytest.raises(NotFound, match="deleted"):
            ask()
    with pytest.raises(NotFound):
        lake.datasets.version(version.id)
    assert lake.datapoints.count() == 12


def test_members_are_added_by_ids_frame_and_filters(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    assert dataset.add(ids[:2]) == 2
    assert dataset.add(ids[:3] + ids[:3]) == 1
    assert dataset.add([uuid.UUID(ids[3])]) == 1
    assert dataset.add(pd.Series(ids[4:5])) == 1
    assert dataset.add(pa.array(ids[5:6])) == 1
    assert dataset.add(lake.datapoints.select({"left": "text", "op": "=", "right": "t6"})) == 1
    assert dataset.add(ids[7].upper()) == 1
    assert dataset.add([]) == 0
    assert texts(dataset.datapoints) == {f"t{number}" for number in range(8)}
    assert dataset.add(filters=EVEN) == 2
    assert len(dataset) == 10
    assert dataset.add(all=True) == 2
    assert dataset.add(all=True) == 0
    assert set(dataset.ids()) == set(ids)


def test_members_are_removed_the_same_ways(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(all=True)
    assert dataset.remove(ids[:2]) == 2
    assert dataset.remove(ids[:3]) == 1
    assert dataset.remove(filters=EVEN) == 4
    assert texts(dataset.datapoints) == {"t3", "t5", "t7", "t9", "t11"}
    assert dataset.remove(all=True) == 5
    assert len(dataset) == 0
    assert lake.datapoints.count() == 12


def test_with_an_unknown_id_nothing_lands(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    other = lake.for_organization("other")
    other.ingest([{"type": "TEXT", "text": "theirs"}])
    foreign = other.datapoints.select()["id"][0]
    absent = str(uuid.uuid4())
    for edit in (dataset.add, dataset.remove):
        with pytest.raises(NotFound) as caught:
            edit([*ids, foreign, absent, "no id"])
        assert caught.value.details == {"unknown": sorted([foreign, absent, "no id"]), "count": 3}
        assert "3 of 15" in caught.value.message
    assert len(dataset) == 0 and dataset.revision == 1
    many = [str(uuid.uuid4()) for _ in range(100)]
    with pytest.raises(NotFound) as caught:
        dataset.add(many)
    assert caught.value.details["count"] == 100
    assert len(caught.value.details["unknown"]) == 20


def test_what_names_no_datapoints_is_refused(dataset: Dataset) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"ids": ["a"], "all": True},
        {"filters": []},
        {"filters": None},
        {"ids": 5},
        {"ids": {"left": "id"}},
        {"ids": [1, 2]},
        {"ids": [None]},
        {"ids": pd.DataFrame({"name": ["a"]})},
        {"ids": ["\ud800"]},
    ]
    for arguments in wrong:
        for edit in (dataset.add, dataset.remove):
            with pytest.raises(InvalidInput):
                edit(**arguments)
    with pytest.raises(InvalidFilter, match="colour"):
        dataset.add(filters={"left": "colour", "op": "=", "right": "red"})


def test_organizations_do_not_see_each_others_datasets(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    dataset.add(ids)
    version = dataset.commit("all")
    other = lake.for_organization("other")
    assert other.datasets.list() == []
    for ask in (
        lambda: other.datasets.get("pets"),
        lambda: other.datasets.get(dataset.id),
        lambda: other.datasets.version(version.id),
        lambda: other.datasets.create("mine").at(version.id),
        lambda: other.datasets.get("mine").checkout(version.id),
        lambda: other.datasets.diff(version.id, version.id),
        lambda: other.datapoints.count(dataset=dataset.id),
        lambda: other.datapoints.count(version=version.id),
        lambda: other.datapoints.count(version=dataset.draft_id),
        lambda: Dataset(other.scope, dataset._state).add(ids),
    ):
        with pytest.raises(NotFound):
            ask()


def test_deleted_datapoints_leave_the_uncommitted_members(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    dataset.add(ids[:4])
    first = dataset.commit("four")
    lake.datapoints.delete({"left": "id", "op": "=", "right": ids[0]})
    status = dataset.status()
    assert (len(dataset), status.size, status.removed, status.deleted) == (3, 3, 1, 1)
    assert texts(first.datapoints) == {"t0", "t1", "t2", "t3"}
    assert dataset.remove(ids[:2]) == 2
    with pytest.raises(NotFound):
        dataset.add(ids[:1])
    second = dataset.commit("two")
    assert (second.size, second.added, second.removed) == (2, 0, 2)
    assert texts(second.datapoints) == {"t2", "t3"}


def test_queries_take_a_dataset_or_a_version(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:8])
    version = dataset.commit("eight")
    dataset.remove(ids[:7])
    dogs = {"left": "groundtruths.class_name", "op": "=", "right": "dog"}
    for named in (dataset, dataset.id, "pets"):
        assert lake.datapoints.count(dataset=named) == 1
        assert lake.datapoints.count(dogs, dataset=named, version="HEAD") == 2
    assert lake.datapoints.count(version=version) == lake.datapoints.count(version=version.id) == 8
    assert lake.tags.count(version=dataset.draft_id) == 1
    assert lake.datapoints(fields=["text"], dataset=dataset)["text"].tolist() == ["t7"]
    assert lake.groundtruths.distinct("class_name", version=version) == ["cat", "dog"]
    spread = lake.datapoints.distribution("groundtruths", version=version)
    assert dict(zip(spread["bucket"], spread["count"], strict=True)) == {"cat": 6, "dog": 2}
    assert b"".join(lake.datapoints.select_json(fields=["text"], dataset=dataset)) == (
        b'[{"text":"t7"}]'
    )
    counts = lake.datapoints.delete(all=True, dataset=dataset)
    assert counts["datapoints"] == 1 and lake.datapoints.count() == 11
    assert version.datapoints.count() == 8
    with pytest.raises(InvalidInput):
        version.datapoints.count(dataset=dataset)
    with pytest.raises(InvalidInput, match="past"):
        version.datapoints.delete(all=True)
    for wrong in (5, "", b"x"):
        with pytest.raises(InvalidInput):
            lake.datapoints.count(dataset=wrong)
        with pytest.raises(InvalidInput):
            lake.datapoints.count(version=wrong)


def test_names_are_compared_with_the_lakes_own(lake: Lake, dataset: Dataset) -> None:
    """A dataset whose name looks like the beginning of another's id is found by its name."""
    with pytest.raises(Conflict):
        dataset.commit("nothing")
    named = lake.datasets.create(dataset.id[:8])
    assert lake.datasets.get(dataset.id[:8]) == named
