"""Edits of datasets are undone, and undone again, but for what others did since."""

from __future__ import annotations

from typing import Any

import pytest

from katiml.datasets import Dataset
from katiml.errors import NotFound
from katiml.lake import Lake


def undone(lake: Lake, change: int | None = None, **options: Any) -> Any:
    return lake.undo(change, **options)


def latest(lake: Lake) -> int:
    rows = lake.scope.query("SELECT max_by(number, created_at) AS number FROM {changes}")
    number: int = rows["number"][0].as_py()
    return number


def test_adding_and_removing(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:4])
    added = latest(lake)
    dataset.remove(ids[0])
    shown = undone(lake, added, dry_run=True)
    assert shown.removed == {"dataset members": 3} and set(dataset.ids()) == set(ids[1:4])
    found = undone(lake, added)
    assert found.removed == {"dataset members": 3} and found.restored == {}
    assert [(one.table, one.rows) for one in found.skipped] == [("dataset members", 1)]
    assert len(dataset) == 0
    undone(lake, found.change)
    assert set(dataset.ids()) == set(ids[1:4])
    dataset.remove(ids[1:3])
    assert undone(lake).restored == {"dataset members": 2}
    assert set(dataset.ids()) == set(ids[1:4])


def test_a_commit_is_uncommitted_again(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:2])
    first = dataset.commit("one")
    dataset.add(ids[2:4])
    second = dataset.commit("two")
    committed = latest(lake)
    dataset.add(ids[5])
    found = undone(lake, committed)
    assert found.removed == {"dataset_versions": 1}
    assert dataset.head == first and set(dataset.ids()) == {*ids[:4], ids[5]}
    assert dataset.versions() == [first]
    with pytest.raises(NotFound):
        dataset.at(second.id)
    assert undone(lake, found.change).restored == {"dataset_versions": 1}
    assert dataset.head == second and dataset.status().added == 1
    assert set(dataset.at(second.id).ids()) == set(ids[:4])
    assert dataset.commit("three").parents == [second.id]


def test_a_commit_that_others_build_on_stays(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:2])
    dataset.commit("one")
    committed = latest(lake)
    dataset.add(ids[2])
    second = dataset.commit("two")
    committed_too = latest(lake)
    found = undone(lake, committed)
    assert found.is_empty and found.skipped[0].reason == "its head was changed since"
    dataset.tag("v1")
    tagged = latest(lake)
    found = undone(lake, committed_too)
    assert found.is_empty and "tagged" in found.skipped[0].reason
    assert undone(lake, tagged).removed == {"dataset_version_tags": 1}
    assert dataset.version_tags() == {} and dataset.head == second


def test_a_checkout_is_taken_back(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:2])
    first = dataset.commit("one")
    dataset.add(ids[2:4])
    second = dataset.commit("two")
    dataset.remove(ids[0])
    dataset.checkout(first, force=True)
    undone(lake)
    assert dataset.head == second and set(dataset.ids()) == set(ids[1:4])


def test_names_deletions_and_tags(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.rename("animals")
    assert undone(lake).restored == {"datasets": 1}
    assert lake.datasets.get("pets") == dataset
    dataset.add(ids[:1])
    dataset.commit("one")
    dataset.delete()
    assert undone(lake).restored == {"datasets": 1}
    assert lake.datasets.list() == [dataset] and len(dataset.versions()) == 1
    dataset.tag("v1")
    dataset.untag("v1")
    assert undone(lake).restored == {"dataset_version_tags": 1}
    assert list(dataset.version_tags()) == ["v1"]
    new = lake.datasets.create("new")
    found = undone(lake)
    assert found.removed == {"datasets": 1} and lake.datasets.list() == [dataset]
    undone(lake, found.change)
    assert lake.datasets.list() == [dataset, new]


def test_a_deleted_datapoint_comes_back_to_its_dataset(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    dataset.add(ids[:3])
    version = dataset.commit("three")
    lake.datapoints.delete({"left": "id", "op": "=", "right": ids[0]})
    assert len(dataset) == 2
    undone(lake)
    assert set(dataset.ids()) == set(ids[:3]) and dataset.status().clean
    assert dataset.diff(version).relabelled_count == 0
