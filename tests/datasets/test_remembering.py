"""What versions show outlives the retention; what they and drafts hold of purged datapoints."""

from __future__ import annotations

import pytest

from katiml.datasets import Dataset
from katiml.errors import NotFound
from katiml.lake import Lake
from tests.datasets.conftest import Label, texts


def test_versions_outlive_the_retention(
    lake: Lake, dataset: Dataset, ids: list[str], label: Label
) -> None:
    dataset.add(ids[:4])
    version = dataset.commit("four")
    before = version.content_hash()
    dataset.add(ids[4:6])
    label(ids[0], "bird")
    lake.datapoints.delete({"left": "id", "op": "in", "right": [*ids[2:5], ids[8]]})
    lake.retention = "PT0S"
    assert lake.forget()["datapoints"] == 2  # t4 and t8, which no version shows
    assert version.content_hash() == before and texts(version.datapoints) == {
        "t0",
        "t1",
        "t2",
        "t3",
    }
    # The draft held a datapoint that is forgotten by now.
    assert set(dataset.ids()) == {ids[0], ids[1], ids[5]} and len(dataset) == 3
    second = dataset.commit("three")
    assert second.size == 3 and set(second.ids()) == {ids[0], ids[1], ids[5]}
    assert dataset.diff(version, second).ids("removed") == ids[2:4]
    with pytest.raises(NotFound):
        lake.restore(ids=[ids[4]])


def test_purged_datapoints_are_counted_and_not_shown(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    dataset.add(ids[:3])
    first = dataset.commit("three")
    dataset.add(ids[3])
    lake.purge(ids=[ids[0], ids[3]])
    assert first.size == len(first) == 3 and set(first.ids()) == set(ids[1:3])
    assert first.tags.count() == first.groundtruths.count() == 2
    assert set(dataset.ids()) == set(ids[1:3])
    second = dataset.commit("two")
    diff = dataset.diff(first, second)
    assert diff.removed_count == 1 and diff.ids("removed") == [ids[0]]
    assert diff.removed.empty
    assert dataset.history()["size"].tolist() == [2, 3]
    assert dataset.remove(ids[0]) == 0
    with pytest.raises(NotFound):
        dataset.add(ids[0])
