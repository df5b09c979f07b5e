"""Create, update, override, patch, merge and delete: each rule of docs/records.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from katiml.records.arrays import decode

MASK = [[0, 1, 1], [2, 2, 1]]


def test_create_stores_every_field(load: Any) -> None:
    load(
        {
            "type": "VIDEO",
            "metadata": {"uri": "s3://a/b.mp4", "frame": 3, "lost": None},
            "timestamp": "2023-05-01T12:00:00Z",
            "gps_coordinates": {"lat": 48.5, "long": 2.25},
            "request_id": "r1",
            "tags": {"split": "train", "count": 3, "night": True},
        }
    )
    row = load.one("datapoints")
    assert row["type"] == "VIDEO"
    assert json.loads(row["metadata"]) == {"uri": "s3://a/b.mp4", "frame": 3}
    assert row["timestamp"] == datetime(2023, 5, 1, 12, tzinfo=UTC)
    assert json.loads(row["gps_coordinates"]) == {"lat": 48.5, "long": 2.25}
    assert row["request_id"] == "r1"
    assert load.tags() == {"split": "train", "count": "3", "night": "true"}


def test_rows_are_dense_and_never_reused(load: Any) -> None:
    for _ in range(3):
        load({"type": "IMAGE"}, {"type": "IMAGE"})
    rows = [row["row"] for row in load.rows("datapoints")]
    assert len(set(rows)) == 6
    assert max(rows) - min(rows) == 5


def test_update_replaces_metadata_whole_and_keeps_the_rest(load: Any) -> None:
    id_ = load.new(metadata={"uri": "a", "width": 3}, text=None, request_id="r")
    before = load.one("datapoints")
    load({"id": id_, "metadata": {"height": 4}})
    after = load.one("datapoints")
    assert json.loads(after["metadata"]) == {"height": 4}
    kept = set(before) - {"metadata", "updated_at", "since"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    load({"id": id_, "metadata": None})
    assert load.one("datapoints")["metadata"] is None


def test_tags_merge_and_null_deletes(load: Any) -> None:
    id_ = load.new(tags={"a": "1", "b": "2"})
    other = load.new(tags={"z": "9"})
    load({"id": id_, "tags": {"b": "3", "c": "4"}})
    assert load.tags() == {"a": "1", "b": "3", "c": "4", "z": "9"}
    load({"id": id_, "tags": {"a": None, "none": None}})
    assert load.tags() == {"b": "3", "c": "4", "z": "9"}
    load({"id": id_, "tags": None})
    assert load.tags() == {"z": "9"}
    load({"id": other})
    assert load.tags() == {"z": "9"}


def test_one_ground_truth_per_task_type(load: Any) -> None:
    cat = {"task_type": "CLASSIFICATION", "class_name": "cat"}
    boxes = {
        "task_type": "OBJECT_DETECTION",
        "bboxes": [{"top": 1, "left": 2, "height": 3, "width": 4}],
    }
    id_ = load.new(groundtruths=[cat, boxes])
    load({"id": id_, "groundtruths": [{**cat, "class_name": "dog"}]})
    assert {row["task_type"]: row["class_name"] for row in load.rows("groundtruths")} == {
        "CLASSIFICATION": "dog",
        "OBJECT_DETECTION": None,
    }
    load({"id": id_, "groundtruths": [{"task_type": "OBJECT_DETECTION", "bboxes": []}]})
    assert load.rows("bboxes") == []


def test_one_prediction_per_task_type_and_model(load: Any) -> None:
    def prediction(model: str, logits: list[float]) -> dict[str, Any]:
        return {
            "task_type": "CLASSIFICATION",
            "model_name": model,
            "class_names": ["a", "b"],
            "logits": logits,
            "embeddings": {"last": [1.0, 2.0]},
        }

    id_ = load.new(predictions=[prediction("m1", [1, 0]), prediction("m2", [1, 0])])
    before = {row["model_name"]: row["id"] for row in load.rows("predictions")}
    load(
        {
            "id": id_,
            "predictions": [
                {"task_type": "CLASSIFICATION", "model_name": "m1", "class_name": "b"},
                {"task_type": "SEGMENTATION", "model_name": "m1", "class_names": ["x"]},
            ],
        }
    )
    rows = load.rows("predictions")
    assert sorted((row["model_name"], row["task_type"]) for row in rows) == [
        ("m1", "CLASSIFICATION"),
        ("m1", "SEGMENTATION"),
        ("m2", "CLASSIFICATION"),
    ]
    assert before["m2"] in {row["id"] for row in rows}
    assert before["m1"] not in {row["id"] for row in rows}
    # Its vectors went with it; those of the other model stayed.
    assert {row["prediction"] for row in load.rows("feature_vectors")} == {before["m2"]}


def test_of_two_with_one_key_in_a_record_the_last_stands(load: Any) -> None:
    names = ["cat", "dog"]
    truths = [{"task_type": "CLASSIFICATION", "class_name": name} for name in names]
    id_ = load.new(groundtruths=truths)
    assert load.one("groundtruths")["class_name"] == "dog"
    load({"id": id_, "groundtruths": truths[::-1]})
    assert load.one("groundtruths")["class_name"] == "cat"


def test_records_of_one_datapoint_apply_in_the_order_sent(load: Any) -> None:
    id_ = load.new(tags={"n": "0"})
    load(*({"id": id_, "tags": {"n": str(number)}, "text": str(number)} for number in range(1, 6)))
    assert load.tags() == {"n": "5"}
    assert load.one("datapoints")["text"] == "5"


class TestPatch:
    """An attachment sent with its own id keeps what is not mentioned."""

    @pytest.fixture
    def sent(self, load: Any) -> tuple[str, str]:
        id_ = load.new(
            predictions=[
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": "m",
                    "class_names": ["a", "b"],
                    "logits": [2.0, 0.0],
                    "embeddings": {"one": [1, 2], "two": [3, 4]},
                    "metrics": {"own": 1, "score": 2},
                }
            ]
        )
        return id_, str(load.one("predictions")["id"])

    def patch(self, load: Any, sent: tuple[str, str], **fields: Any) -> dict[str, Any]:
        load({"id": sent[0], "predictions": [{"id": sent[1], **fields}]})
        row: dict[str, Any] = load.one("predictions")
        assert str(row["id"]) == sent[1]
        return row

    def vectors(self, load: Any) -> dict[tuple[str, str], list[float]]:
        return {
            (row["type"], row["model_name"]): decode(row["encoded_value"]).tolist()
            for row in load.rows("feature_vectors")
        }

    def test_metrics_merge(self, load: Any, sent: tuple[str, str]) -> None:
        before = load.one("predictions")
        row = self.patch(load, sent, metrics={"score": 3})
        assert json.loads(row.pop("metrics")) == {
            **json.loads(before.pop("metrics")),
            "score": 3,
        }
        assert {**row, "since": 0} == {**before, "since": 0}
        assert len(self.vectors(load)) == 3

    def test_new_logits_derive_anew(self, load: Any, sent: tuple[str, str]) -> None:
        row = self.patch(load, sent, logits=[0.0, 2.0])
        assert row["class_name"] == "b"
        assert row["confidences"] == pytest.approx([0.1192, 0.8808], abs=1e-4)
        assert json.loads(row["metrics"])["own"] == 1
        assert self.vectors(load)["LOGITS", "m"] == [0.0, 2.0]

    def test_null_logits_are_deleted(self, load: Any, sent: tuple[str, str]) -> None:
        for logits in (None, []):
            self.patch(load, sent, logits=logits)
            assert set(self.vectors(load)) == {("EMBEDDINGS", "m:one"), ("EMBEDDINGS", "m:two")}

    def test_one_layer_is_replaced_or_deleted(self, load: Any, sent: tuple[str, str]) -> None:
        self.patch(load, sent, embeddings={"one": [9, 9], "two": []})
        assert self.vectors(load) == {("LOGITS", "m"): [2.0, 0.0], ("EMBEDDINGS", "m:one"): [9, 9]}

    @pytest.mark.parametrize("nothing", [None, {}])
    def test_all_embeddings_are_deleted(
        self, load: Any, sent: tuple[str, str], nothing: object
    ) -> None:
        self.patch(load, sent, embeddings=nothing)
        assert set(self.vectors(load)) == {("LOGITS", "m")}

    def test_a_new_model_name_takes_the_vectors_along(
        self, load: Any, sent: tuple[str, str]
    ) -> None:
        self.patch(load, sent, model_name="other")
        assert {name for _, name in self.vectors(load)} == {"other", "other:one", "other:two"}

    def test_an_explicit_null_clears(self, load: Any, sent: tuple[str, str]) -> None:
        assert self.patch(load, sent, class_name=None)["class_name"] is None

    def test_sending_the_same_again_changes_nothing(self, load: Any, sent: tuple[str, str]) -> None:
        boxes = [{"top": 1, "left": 1, "height": 2, "width": 2, "class_name": "car"}]
        self.patch(load, sent, bboxes=boxes)
        (first,) = load.rows("bboxes")
        self.patch(load, sent, bboxes=[{"id": str(first["id"])}])
        (again,) = load.rows("bboxes")
        same = set(first) - {"created_at", "since"}
        assert {name: again[name] for name in same} == {name: first[name] for name in same}


def test_boxes_of_a_patched_ground_truth_are_replaced(load: Any) -> None:
    boxes = [
        {"top": 1, "left": 2, "height": 3, "width": 4, "class_name": "car", "objectness": 0.5},
        {"coco_polygon": [0, 0, 10, 0, 10, 20], "class_name": "bus"},
    ]
    id_ = load.new(groundtruths=[{"task_type": "INSTANCE_SEGMENTATION", "bboxes": boxes}])
    truth = str(load.one("groundtruths")["id"])
    car, bus = load.rows("bboxes")
    assert [bus[side] for side in ("top", "left", "height", "width")] == [0, 0, 20, 10]
    kept = {"id": str(car["id"]), "class_name": "van"}
    load({"id": id_, "groundtruths": [{"id": truth, "bboxes": [kept, {"class_name": "new"}]}]})
    rows = {row["class_name"]: row for row in load.rows("bboxes")}
    assert set(rows) == {"van", "new"}
    assert rows["van"]["id"] == car["id"]
    assert (rows["van"]["objectness"], rows["van"]["width"]) == (0.5, 4)
    load({"id": id_, "groundtruths": [{"id": truth, "bboxes": None}]})
    assert load.rows("bboxes") == []


def test_lanes_and_completions(load: Any) -> None:
    lane = {
        "coco_polyline": [0, 0, 5, 5],
        "confidence": 0.9,
        "classifications": [
            {"name": "colour", "class_names": ["white", "yellow"], "confidences": [0.2, 0.8]}
        ],
    }
    completion = {"text": "hello", "confidence": 0.5, "metrics": {"rlhf_score": 0.3}}
    id_ = load.new(
        predictions=[
            {"task_type": "LANE_DETECTION", "lanes": [lane]},
            {"task_type": "COMPLETION", "completions": [completion]},
        ]
    )
    (row,) = load.rows("lanes")
    (classification,) = json.loads(row["classifications"])
    assert classification["class_name"] == "yellow"
    assert classification["confidence"] == 0.8
    assert 0 < classification["metrics"]["entropy"] < 1
    (told,) = load.rows("completions")
    assert (told["text"], json.loads(told["metrics"])) == ("hello", {"rlhf_score": 0.3})
    owner = str(told["prediction"])
    load(
        {
            "id": id_,
            "predictions": [
                {"id": owner, "completions": [{"id": str(told["id"]), "metrics": {"drift": 1}}]}
            ],
        }
    )
    (told,) = load.rows("completions")
    assert told["text"] == "hello"
    assert json.loads(told["metrics"]) == {"rlhf_score": 0.3, "drift": 1}


def test_masks_are_encoded_resized_and_counted(load: Any) -> None:
    names = ["road", "car"]
    for task in ("SEGMENTATION", "SEMANTIC_SEGMENTATION"):
        load(
            {
                "type": "IMAGE",
                "groundtruths": [
                    {"task_type": task, "class_names": names, "segmentation_class_mask": MASK}
                ],
            }
        )
    for row in load.rows("groundtruths"):
        assert row["task_type"] == "SEGMENTATION"
        assert decode(row["encoded_segmentation_class_mask"]).tolist() == MASK
        assert decode(row["encoded_resized_segmentation_class_mask"]).shape == (512, 512)
        assert json.loads(row["metrics"]) == {"distribution": {"road": 1, "car": 3, "2": 2}}


def test_a_mask_stays_when_it_is_not_mentioned(load: Any) -> None:
    id_ = load.new(groundtruths=[{"task_type": "SEGMENTATION", "segmentation_class_mask": MASK}])
    row = load.one("groundtruths")
    load({"id": id_, "groundtruths": [{"id": str(row["id"]), "class_name": "x"}]})
    after = load.one("groundtruths")
    for name in ("encoded_segmentation_class_mask", "encoded_resized_segmentation_class_mask"):
        assert after[name] == row[name]
    assert json.loads(after["metrics"]) == json.loads(row["metrics"])


def test_segmentation_logits(load: Any) -> None:
    logits = np.zeros((2, 4, 4))
    logits[1, :, 2:] = 3
    load(
        {
            "type": "IMAGE",
            "predictions": [
                {"task_type": "SEGMENTATION", "class_names": ["a", "b"], "logits": logits},
                {
                    "task_type": "SEGMENTATION",
                    "model_name": "dropout",
                    "logits": np.stack([logits, logits[::-1]]),
                },
            ],
        }
    )
    rows = {row["model_name"]: row for row in load.rows("predictions")}
    mask = decode(rows[""]["encoded_segmentation_class_mask"])
    assert mask.tolist() == [[0, 0, 1, 1]] * 4
    metrics = json.loads(rows[""]["metrics"])
    assert metrics["distribution"] == {"a": 8, "b": 8}
    assert 0.5 < metrics["entropy"] < 1
    assert rows[""]["confidence"] == pytest.approx(0.5)
    assert {"variance", "bald", "entropy"} <= set(json.loads(rows["dropout"]["metrics"]))
    maps = {(row["model_name"], row["type"]): row for row in load.rows("feature_vectors")}
    assert set(maps) == {
        ("", "LOGITS"),
        ("", "PXL_ENTROPY"),
        ("dropout", "LOGITS"),
        ("dropout", "PXL_ENTROPY"),
        ("dropout", "PXL_VARIANCE"),
    }
    # Real maps, not zeros as the original stored.
    entropy = decode(maps["", "PXL_ENTROPY"]["encoded_value"])
    assert entropy.shape == (512, 512)
    assert entropy[0, 0] == pytest.approx(1)
    assert 0 < entropy[0, -1] < 1


def test_mc_dropout_classification(load: Any) -> None:
    load(
        {
            "type": "IMAGE",
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "class_names": ["a", "b"],
                    "logits": [[9, 0], [0, 9]],
                }
            ],
        }
    )
    row = load.one("predictions")
    assert row["confidences"] == pytest.approx([0.5, 0.5])
    metrics = json.loads(row["metrics"])
    assert metrics["entropy"] == pytest.approx(1)
    assert metrics["bald"] > 0.9
    assert metrics["variance"] == pytest.approx(0.25, abs=0.01)


def test_vectors_are_float16_unless_they_would_overflow(load: Any) -> None:
    load(
        {
            "type": "IMAGE",
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "logits": [70_000.0, 1.0],
                    "embeddings": {"small": np.float32([0.1, 0.2]), "map": np.ones((2, 3, 4))},
                    "grad_embeddings": {"last": [[1, 2], [3, 4]]},
                }
            ],
        }
    )
    found = {
        (row["type"], row["model_name"]): (row["dtype"], row["shape"])
        for row in load.rows("feature_vectors")
    }
    assert found == {
        ("LOGITS", ""): ("float32", [2]),
        ("EMBEDDINGS", ":small"): ("float16", [2]),
        ("EMBEDDINGS", ":map"): ("float16", found["EMBEDDINGS", ":map"][1]),
        ("GRAD_EMBEDDINGS", ":last"): ("float16", [4]),
    }
    assert np.prod(found["EMBEDDINGS", ":map"][1]) == 24


def test_parent_datapoint(load: Any) -> None:
    parent = load.new()
    load({"type": "IMAGE", "parent_datapoint": parent})
    assert [row["parent_datapoint"] for row in load.rows("datapoints")] == [None, parent]


def test_patches_are_children(load: Any) -> None:
    load(
        {
            "type": "IMAGE",
            "metadata": {"uri": "a", "width": 100, "height": 80},
            "groundtruths": [
                {"task_type": "SEGMENTATION", "segmentation_class_mask": np.eye(4, dtype=int)}
            ],
            "_preprocessor": {"type": "patch_sample", "size": [2, 2]},
        }
    )
    parent, *patches = load.rows("datapoints")
    assert len(patches) == 4
    assert {patch["parent_datapoint"] for patch in patches} == {parent["id"]}
    regions = [json.loads(patch["metadata"])["normalized_roi"] for patch in patches]
    assert sorted((region["top"], region["left"]) for region in regions) == [
        (0, 0),
        (0, 0.5),
        (0.5, 0),
        (0.5, 0.5),
    ]
    assert len(load.rows("groundtruths")) >= 4


def test_patches_of_a_stored_datapoint(load: Any) -> None:
    id_ = load.new()
    load({"id": id_, "tags": {"a": "b"}, "_preprocessor": {"type": "patch_sample", "size": [1, 2]}})
    children = [row for row in load.rows("datapoints") if row["parent_datapoint"]]
    assert [row["parent_datapoint"] for row in children] == [id_, id_]
