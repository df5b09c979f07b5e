"""Diffs: members, labels and how these are spread; each the inverse of the other way round."""

from __future__ import annotations

import json
from typing import Any

import pytest

from katiml.datasets import Dataset, Diff
from katiml.errors import InvalidInput, NotFound
from katiml.lake import Lake
from tests.datasets.conftest import Label


def changes(frame: Any, *keys: str) -> dict[Any, tuple[int, int, int]]:
    return {
        tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: (
            row["before"],
            row["after"],
            row["change"],
        )
        for row in frame.to_dict("records")
    }


@pytest.fixture
def diff(lake: Lake, dataset: Dataset, ids: list[str], label: Label) -> Diff:
    """From t0 - t4 to t2 - t7, t3 relabelled, t4 tagged and written otherwise, t2 and t3 labelled
    or written again as they were."""
    made = {"task_type": "CLASSIFICATION", "model_name": "net", "class_name": "cat"}
    lake.ingest([{"id": id_, "predictions": [made]} for id_ in ids[:6]])
    dataset.add(ids[:5])
    first = dataset.commit("five")
    dataset.remove(ids[:2])
    dataset.add(ids[5:8])
    label(ids[2], "cat")
    label(ids[3], "bird")
    label(ids[9], "bird")
    lake.ingest([{"id": ids[4], "tags": {"half": "both", "new": "x"}, "text": "edited"}])
    lake.ingest([{"id": ids[3], "text": "t3"}])
    return dataset.diff(first, dataset.commit("six"))


def test_a_diff_says_what_changed(diff: Diff, ids: list[str]) -> None:
    counts = (diff.added_count, diff.removed_count, diff.relabelled_count, diff.retagged_count)
    assert counts == (3, 2, 1, 1) and diff.edited_count == 1 and diff
    assert diff.edited.to_dict("records") == [
        {"id": ids[4], "before": ["text=t4"], "after": ["text=edited"]}
    ]
    assert diff.added["id"].tolist() == diff.ids("added") == ids[5:8]
    assert diff.removed["id"].tolist() == diff.ids("removed") == ids[:2]
    assert diff.relabelled.to_dict("records") == [
        {"id": ids[3], "before": ["CLASSIFICATION cat"], "after": ["CLASSIFICATION bird"]}
    ]
    assert diff.retagged.to_dict("records") == [
        {"id": ids[4], "before": ["half=even"], "after": ["half=both", "new=x"]}
    ]
    assert diff.collection("added", "groundtruths").count() == 3


def test_a_diff_compares_distributions(diff: Diff) -> None:
    assert changes(diff.groundtruths, "task_type", "bucket") == {
        ("CLASSIFICATION", "bird"): (0, 1, 1),
        ("CLASSIFICATION", "cat"): (5, 3, -2),
        ("CLASSIFICATION", "dog"): (0, 2, 2),
    }
    assert changes(diff.predictions, "model_name", "bucket") == {("net", "cat"): (5, 4, -1)}
    assert changes(diff.tags, "name", "value") == {
        ("half", "both"): (0, 1, 1),
        ("half", "even"): (3, 2, -1),
        ("half", "odd"): (2, 3, 1),
        ("new", "x"): (0, 1, 1),
    }


def test_a_diff_is_json_and_a_table(diff: Diff, ids: list[str], dataset: Dataset) -> None:
    found = json.loads(json.dumps(diff.to_dict()))
    assert found["counts"] == {
        "added": 3,
        "removed": 2,
        "relabelled": 1,
        "retagged": 1,
        "edited": 1,
    }
    assert found["added"] == ids[5:8] and found["relabelled"] == [ids[3]]
    assert found["before"]["version"]["message"] == "five"
    assert found["after"]["size"] == 6 and found["after"]["dataset"] == dataset.id
    assert found["distributions"]["predictions"] == [
        {
            "model_name": "net",
            "task_type": "CLASSIFICATION",
            "bucket": "cat",
            "before": 5,
            "after": 4,
            "change": -1,
        }
    ]
    assert "added" not in diff.to_dict(ids=False)
    text = str(diff)
    for part in ("five .. ", "+3 added", "-2 removed", "~1 relabelled", "bird", "+1", "-2"):
        assert part in text, text


def test_the_other_way_round_is_the_inverse(diff: Diff, dataset: Dataset) -> None:
    assert diff.before.version and diff.after.version
    back = dataset.diff(diff.after.version, diff.before.version)
    assert back.added_rows == diff.removed_rows and back.removed_rows == diff.added_rows
    assert back.relabelled_rows == diff.relabelled_rows
    assert back.retagged_rows == diff.retagged_rows
    for name in ("groundtruths", "predictions", "tags"):
        forth_frame, back_frame = getattr(diff, name), getattr(back, name)
        assert back_frame["change"].tolist() == (-forth_frame["change"]).tolist()
        assert back_frame["before"].tolist() == forth_frame["after"].tolist()
    assert back.relabelled["before"].tolist() == diff.relabelled["after"].tolist()
    assert not dataset.diff(diff.before.version, diff.before.version)


def test_what_is_uncommitted(dataset: Dataset, ids: list[str], label: Label) -> None:
    start = dataset.diff()
    assert not start and start.before.label == "nothing"
    dataset.add(ids[:3])
    assert dataset.diff().ids("added") == ids[:3]
    first = dataset.commit("three")
    assert not dataset.diff()
    dataset.remove(ids[0])
    label(ids[1], "bird")
    diff = dataset.diff()
    assert diff.ids("removed") == ids[:1] and diff.ids("relabelled") == ids[1:2]
    status = dataset.status()
    assert (status.relabelled, status.removed, status.clean) == (1, 1, False)
    assert "1 removed" in str(status)
    assert status.to_dict()["relabelled"] == 1
    assert dataset.diff("draft", first).ids("added") == ids[:1]
    assert first.diff("draft").ids("removed") == ids[:1]


def test_changed_boxes_count_as_relabelled(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    def boxes(*names: str) -> None:
        found = [
            {"class_name": name, "top": 1, "left": 1, "height": 2, "width": index + 2}
            for index, name in enumerate(names)
        ]
        truth = {"task_type": "OBJECT_DETECTION", "bboxes": found}
        assert lake.ingest([{"id": ids[0], "groundtruths": [truth]}]).status == "SUCCEEDED"

    boxes("car", "car", "person")
    dataset.add(ids[:2])
    dataset.commit("boxes")
    boxes("car", "car", "person")
    assert dataset.diff().relabelled_count == 0
    boxes("car", "person", "person")
    diff = dataset.diff()
    (row,) = diff.relabelled.to_dict("records")
    assert row["before"] == ["CLASSIFICATION cat", "OBJECT_DETECTION car x2, person"]
    assert row["after"] == ["CLASSIFICATION cat", "OBJECT_DETECTION car, person x2"]
    assert changes(diff.groundtruths, "bucket")["car"] == (2, 1, -1)
    lake.bboxes.delete({"left": "class_name", "op": "=", "right": "person"})
    assert dataset.diff().relabelled["after"][0] == ["CLASSIFICATION cat", "OBJECT_DETECTION car"]


def test_diffs_span_datasets(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:3])
    first = dataset.commit("three")
    other = lake.datasets.create("other")
    other.add(ids[2:5])
    for diff in (
        lake.datasets.diff(first, other.draft_id),
        lake.datasets.diff(first.id, other.commit("x")),
        dataset.diff(first, other.at()),
    ):
        assert diff.ids("added") == ids[3:5] and diff.ids("removed") == ids[:2]
    with pytest.raises(NotFound):
        lake.datasets.diff(first.short_id, first)
    with pytest.raises(InvalidInput):
        lake.datasets.diff(5, first)  # type: ignore[arg-type]


def test_deleted_datapoints_are_shown(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:3])
    first = dataset.commit("three")
    lake.datapoints.delete({"left": "id", "op": "in", "right": ids[:2]})
    dataset.add(ids[5])
    diff = dataset.diff(first, dataset.commit("two"))
    assert diff.removed["text"].tolist() == ["t0", "t1"] and diff.ids("removed") == ids[:2]
    assert changes(diff.groundtruths, "bucket") == {"cat": (3, 2, -1)}
