"""`dioptra.lake.datasets`, on an embedded lake and over HTTP."""

from __future__ import annotations

import inspect

import pandas as pd
import pytest

import katiml
from dioptra.lake import datasets, utils
from dioptra.lake.datasets import Dataset, list_datasets
from katiml.errors import InvalidInput, NotFound
from tests.datasets.conftest import EVEN, records


@pytest.fixture
def ids(lake: katiml.Lake) -> list[str]:
    """The ids of twelve datapoints, in the order of their texts t0, t1, t10, t11, t2 ..."""
    lake.ingest(records())
    return list(utils.select_datapoints([], order_by="text")["id"])


def test_a_dataset_is_made_and_found(lake: katiml.Lake) -> None:
    first = Dataset()
    assert (first.dataset_id, first.dataset_name) == (None, None)
    first.create("train")
    second = Dataset()
    second.get_or_create("train")
    assert second.dataset_id == first.dataset_id and second.dataset_name == "train"
    third = Dataset()
    third.get_from_name("train")
    assert third.dataset_id == first.dataset_id
    third.get_from_uuid(str(first.dataset_id))
    assert str(third) == f"Dataset with uuid {first.dataset_id} and name train"
    third.get_or_create("test")
    assert [one.dataset_name for one in list_datasets()] == ["train", "test"]
    with pytest.raises(ValueError, match="No Dataset exists for name other"):
        third.get_from_name("other")
    with pytest.raises(NotFound):
        third.get_from_uuid("01900000-0000-7000-8000-000000000000")
    assert third.dataset_name == "test"
    first.create("train")
    with pytest.warns(UserWarning, match="2 datasets"):
        third.get_from_name("train")
    assert third.dataset_id == second.dataset_id
    second.delete()
    assert [one.dataset_id for one in list_datasets()][1:] == [first.dataset_id]
    with pytest.raises(NotFound):
        second.commit("x")
    with pytest.raises(InvalidInput, match="stands for no dataset"):
        Dataset().commit("x")


def test_members_versions_and_rows(lake: katiml.Lake, ids: list[str]) -> None:
    dataset = Dataset()
    dataset.get_or_create("pets")
    dataset.add_datapoints(utils.select_datapoints(EVEN)["id"])
    dataset.add_datapoints(ids[:1])
    assert len(dataset.download_datapoints()) == 6
    first = dataset.commit("even")
    dataset.remove_datapoints(ids[:1])
    dataset.add_datapoints(filters=[{"left": "text", "op": "=", "right": "t1"}])
    status = dataset.status()
    assert (status["added"], status["removed"], status["clean"]) == (1, 1, False)
    utils.stream_to_lake(
        [
            {
                "id": str(dataset.select_datapoints(EVEN[1:])["id"][0]),
                "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "bird"}],
            }
        ]
    )
    diff = dataset.diff()
    assert diff.counts == {"added": 1, "removed": 1, "relabelled": 1, "retagged": 0, "edited": 0}
    assert diff.removed == ids[:1] and len(diff.relabelled) == 1
    assert diff.groundtruths.set_index("bucket")["change"].to_dict() == {
        "bird": 1,
        "cat": -1,
        "dog": 0,
    }
    assert "+1 added" in str(diff) and "bird" in str(diff)
    second = dataset.commit("changed")
    history = dataset.history()
    assert [one["uuid"] for one in history][1:] == [second, first]
    assert history[0]["committed"] is False and history[1]["message"] == "changed"

    version = dataset.at("HEAD~1")
    assert (version.version_id, version.size, version.message) == (first, 6, "even")
    assert "bird" not in set(version.select_groundtruths()["class_name"])
    assert "bird" in set(dataset.select_groundtruths()["class_name"])
    assert len(version.select_tags([{"left": "value", "op": "=", "right": "even"}])) == 6
    assert version.select_predictions().empty and version.select_bboxes().empty
    assert len(version.select_datapoints([], limit=2, order_by="text", desc=True)) == 2
    assert dataset.checkout(first) == first
    assert set(dataset.download_datapoints()["id"]) == set(version.download_datapoints()["id"])


def test_download_takes_fields(lake: katiml.Lake, ids: list[str]) -> None:
    dataset = Dataset()
    dataset.create("pets")
    assert isinstance(dataset.download_datapoints(), pd.DataFrame)
    dataset.add_datapoints(ids[:2])
    frame = dataset.download_datapoints(fields=["id", "text", "groundtruths.class_name"])
    assert frame.columns.tolist() == ["id", "text", "groundtruths"]
    assert frame["groundtruths"].tolist() == [[{"class_name": "cat"}]] * 2
    assert dataset.download_datapoints(["text"]).columns.tolist() == ["text"]
    plain = dataset.download_datapoints()
    assert {"id", "type", "metadata", "text"} <= set(plain.columns)


def test_wrong_members(lake: katiml.Lake, ids: list[str]) -> None:
    dataset = Dataset()
    dataset.create("pets")
    with pytest.raises(NotFound) as caught:
        dataset.add_datapoints([*ids, "nonsense"])
    assert caught.value.details["unknown"] == ["nonsense"]
    assert dataset.status()["size"] == 0
    for wrong in (
        lambda: dataset.add_datapoints(ids[0]),
        lambda: dataset.add_datapoints(pd.DataFrame({"id": ids})),
    ):
        with pytest.raises(InvalidInput):
            wrong()
    with pytest.raises(InvalidInput):
        dataset.commit("")


def test_signatures_are_those_of_the_original() -> None:
    original = {
        "get_from_uuid": ["uuid"],
        "get_from_name": ["name"],
        "get_or_create": ["name"],
        "create": ["name"],
        "commit": ["message"],
        "history": [],
        "checkout": ["commit_id"],
        "delete": [],
    }
    for name, parameters in original.items():
        found = list(inspect.signature(getattr(datasets.Dataset, name)).parameters)[1:]
        assert found == parameters, name
    for name, first in {
        "download_datapoints": "fields",
        "add_datapoints": "datapoint_ids",
        "remove_datapoints": "datapoint_ids",
    }.items():
        assert list(inspect.signature(getattr(datasets.Dataset, name)).parameters)[1] == first
