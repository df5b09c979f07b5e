"""`lake.evaluate`: from records to metrics, in both homes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import katiml
from katiml.errors import InvalidInput, NotFound
from katiml.records.arrays import encode
from tests.evaluation.references import HEIGHT, WIDTH, Box, coco_reference, drawn, random_boxes

Records = list[dict[str, Any]]
ANIMALS = ["cat", "dog", "emu"]


def classified(count: int = 60, seed: int = 0) -> Records:
    """Labels, and what two models say: "small" leaves out every tenth."""
    random = np.random.default_rng(seed)
    records = []
    for number in range(count):
        truth = ANIMALS[random.integers(3)]
        predictions = []
        for model, share in (("small", 0.6), ("large", 0.9)):
            said = truth if random.random() < share else ANIMALS[random.integers(3)]
            if model == "large" or number % 10:
                predictions.append(
                    {
                        "task_type": "CLASSIFICATION",
                        "model_name": model,
                        "class_name": said,
                        "confidence": round(float(random.random()), 3),
                    }
                )
        records.append(
            {
                "type": "IMAGE",
                "metadata": {"uri": f"{number}.jpg"},
                "tags": {"half": str(number % 2)},
                "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": truth}],
                "predictions": predictions,
            }
        )
    return records


def pairs_of(records: Records, model: str) -> tuple[list[str], list[str]]:
    """Truth and prediction of each record that the model predicted."""
    both = [
        (record["groundtruths"][0]["class_name"], one["class_name"])
        for record in records
        for one in record["predictions"]
        if one["model_name"] == model
    ]
    return [a for a, _ in both], [b for _, b in both]


def test_classification(lake: katiml.Lake) -> None:
    records = classified()
    lake.ingest(records)
    lake.ingest([{"type": "TEXT", "text": "without a label"}])
    truth, said = pairs_of(records, "small")
    found = lake.evaluate("small")
    assert (found.task_type, found.datapoints, found.without_prediction) == (
        "CLASSIFICATION",
        54,
        6,
    )
    assert found.confusion_matrix.index.tolist() == ANIMALS
    expected = confusion_matrix(truth, said, labels=ANIMALS)
    assert found.confusion_matrix.to_numpy().tolist() == expected.tolist()
    accuracy = np.mean([a == b for a, b in zip(truth, said, strict=True)])
    assert found.overall["accuracy"] == pytest.approx(accuracy)
    assert found.overall["accuracy_low"] < accuracy < found.overall["accuracy_high"]
    assert found.per_class["support"].sum() == 54
    assert found.confusions["count"].sum() == 54
    assert found.confusions["count"].is_monotonic_decreasing


def test_filters_choose_datapoints_and_missing_predictions_may_count(lake: katiml.Lake) -> None:
    records = classified()
    lake.ingest(records)
    half = [
        {"left": "tags.name", "op": "=", "right": "half"},
        {"left": "tags.value", "op": "=", "right": "0"},
    ]
    truth, said = pairs_of(records[0::2], "small")
    found = lake.evaluate("small", half)
    assert (found.datapoints, found.without_prediction) == (24, 6)
    right = sum(a == b for a, b in zip(truth, said, strict=True))
    assert found.overall["accuracy"] == pytest.approx(right / 24)
    counted = lake.evaluate("small", half, count_missing=True)
    assert (counted.datapoints, counted.without_prediction) == (30, 6)
    assert counted.overall["accuracy"] == pytest.approx(right / 30)
    assert counted.confusion_matrix["(none)"].sum() == 6
    assert counted.mistakes(predicted="(none)")["datapoint"].nunique() == 6


def test_models_side_by_side_on_what_all_have_predicted(lake: katiml.Lake) -> None:
    records = classified()
    lake.ingest(records)
    both = lake.evaluate(["small", "large"])
    assert list(both) == ["small", "large"]
    assert [one.datapoints for one in both.values()] == [54, 54]
    kept = [record for record in records if len(record["predictions"]) == 2]
    truth, said = pairs_of(kept, "large")
    right = np.mean([a == b for a, b in zip(truth, said, strict=True)])
    assert both.overall.loc["large", "accuracy"] == pytest.approx(right)
    assert both.per_class("recall").shape == (3, 2)
    assert lake.evaluate("large").datapoints == 60
    text = str(both)
    assert "small" in text and "large" in text and "f1 macro" in text
    with pytest.raises(InvalidInput, match="no metric 'colour'"):
        both.per_class("colour")


def test_mistakes_are_the_datapoints_of_a_cell_the_most_confident_first(lake: katiml.Lake) -> None:
    lake.ingest(classified())
    found = lake.evaluate("small")
    cell = found.mistakes("cat", "dog")
    assert len(cell) == found.confusion_matrix.loc["cat", "dog"] > 0
    assert set(cell["truth"]) == {"cat"} and set(cell["predicted"]) == {"dog"}
    assert cell["confidence"].is_monotonic_decreasing
    every = found.mistakes(limit=1000)
    assert len(every) == found.confusion.total - found.confusion.correct
    assert len(found.mistakes("cat", limit=1000)) == (every["truth"] == "cat").sum()
    assert len(found.mistakes(limit=2)) == 2
    labelled = lake.groundtruths.select(
        {"left": "datapoint", "op": "in", "right": cell["datapoint"].tolist()}, ["class_name"]
    )
    assert set(labelled["class_name"]) == {"cat"}
    with pytest.raises(InvalidInput, match="no class 'cow'"):
        found.mistakes("cow")


def test_another_organization_is_not_seen(lake: katiml.Lake) -> None:
    lake.ingest(classified(20))
    with pytest.raises(NotFound, match="no predictions of a model 'small'"):
        lake.for_organization("other").evaluate("small")
    lake.for_organization("other").ingest(classified(40, seed=1))
    assert lake.evaluate("large").datapoints == 20


# -- boxes and instances ---------------------------------------------------------------------


def boxed(truths: list[Box], found: list[Box], *, masks: str = "") -> Records:
    """Records of those boxes; `masks` as "polygons" or "bitmaps"."""
    kind = "INSTANCE_SEGMENTATION" if masks else "OBJECT_DETECTION"

    def box_of(box: Box) -> dict[str, Any]:
        left, top, width, height = box.sides
        fields: dict[str, Any] = {"class_name": f"class {box.label}"}
        if masks == "bitmaps":
            fields["encoded_segmentation_mask"] = encode(drawn(box.polygon, HEIGHT, WIDTH))
        elif masks:
            fields["coco_polygon"] = box.polygon
        else:
            fields |= {"top": top, "left": left, "height": height, "width": width}
        return fields

    records: Records = []
    for image in range(1 + max(box.image for box in [*truths, *found])):
        own = [
            {**box_of(box), **({"metrics": {"iscrowd": 1}} if box.crowd else {})}
            for box in truths
            if box.image == image
        ]
        said = [{**box_of(box), "confidence": box.score} for box in found if box.image == image]
        records.append(
            {
                "type": "IMAGE",
                "metadata": {"height": HEIGHT, "width": WIDTH},
                "groundtruths": [{"task_type": kind, "bboxes": own}],
                "predictions": [{"task_type": kind, "model_name": "net", "bboxes": said}],
            }
        )
    return records


@pytest.mark.parametrize("masks", ["", "polygons", "bitmaps"])
def test_boxes_and_instances_equal_pycocotools(lake: katiml.Lake, masks: str) -> None:
    truths, found = random_boxes(4)
    lake.ingest(boxed(truths, found, masks=masks))
    expected, by_class = coco_reference(truths, found, masks=bool(masks))
    evaluated = lake.evaluate("net")
    got = [evaluated.overall[name] for name in expected]
    np.testing.assert_allclose(got, list(expected.values()), atol=1e-12)
    assert evaluated.per_class["class_name"].tolist() == [f"class {n}" for n in range(4)]
    np.testing.assert_allclose(evaluated.per_class["ap"], by_class, atol=1e-12)


def test_many_images_are_read_in_parts(lake: katiml.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    truths, found = random_boxes(6)
    lake.ingest(boxed(truths, found))
    whole = lake.evaluate("net").overall
    monkeypatch.setattr("katiml.evaluation.boxes._ROWS", 7)
    seen: list[float] = []
    assert lake.evaluate("net", on_progress=seen.append).overall == pytest.approx(whole)
    assert seen == sorted(seen) and seen[-1] == 1.0


def _detection(truths: list[Any], said: list[Any]) -> Records:
    def boxes(items: list[Any]) -> list[dict[str, Any]]:
        return [
            {
                "class_name": name,
                "top": top,
                "left": left,
                "height": 10,
                "width": 10,
                **({"confidence": confidence[0]} if confidence else {}),
            }
            for name, top, left, *confidence in items
        ]

    return [
        {
            "type": "IMAGE",
            "groundtruths": [{"task_type": "OBJECT_DETECTION", "bboxes": boxes(truths)}],
            "predictions": [
                {"task_type": "OBJECT_DETECTION", "model_name": "net", "bboxes": boxes(said)}
            ],
        }
    ]


def test_confusions_of_boxes(lake: katiml.Lake) -> None:
    truths = [("cat", 0, 0), ("dog", 0, 50), ("cat", 50, 0), ("emu", 90, 90)]
    said = [
        ("cat", 1, 0, 0.9),  # right
        ("cat", 0, 2, 0.8),  # the same cat again
        ("cat", 0, 51, 0.7),  # a dog taken for a cat
        ("dog", 50, 50, 0.6),  # nothing there
        ("emu", 90, 90, 0.2),  # right, but not sure enough
    ]
    lake.ingest(_detection(truths, said))
    found = lake.evaluate("net")
    matrix = found.confusion_matrix
    assert matrix.index.tolist() == ["cat", "dog", "emu", "(none)"]
    assert matrix.to_numpy().tolist() == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]
    cat = found.per_class.set_index("class_name").loc["cat"]
    assert (cat["precision"], cat["recall"]) == (pytest.approx(1 / 3), 0.5)
    assert cat["ap"] > 0
    assert lake.evaluate("net", min_confidence=0.1).confusion_matrix.loc["emu", "emu"] == 1
    assert lake.evaluate("net", iou_threshold=0.95).confusion.correct == 0
    confused = found.mistakes("dog", "cat")
    assert confused[["left", "confidence"]].to_numpy().tolist() == [[51.0, 0.7]]
    assert found.mistakes("(none)")["confidence"].tolist() == [0.8, 0.6]
    missed = found.mistakes(predicted="(none)")
    assert sorted(missed["truth"]) == ["cat", "emu"]
    assert missed["confidence"].isna().all()
    assert set(missed["bbox"]) <= set(lake.bboxes.select(fields=["id"])["id"])


def test_a_box_of_the_same_class_is_matched_before_a_nearer_one_of_another(
    lake: katiml.Lake,
) -> None:
    lake.ingest(_detection([("cat", 0, 0), ("dog", 0, 2)], [("dog", 0, 0.5, 0.9)]))
    matrix = lake.evaluate("net").confusion_matrix
    assert (matrix.loc["dog", "dog"], matrix.loc["cat", "(none)"]) == (1, 1)


def test_an_image_without_objects_still_has_false_detections(lake: katiml.Lake) -> None:
    lake.ingest(_detection([("cat", 0, 0)], [("cat", 0, 0, 0.5)]))
    assert lake.evaluate("net").overall["map"] == pytest.approx(1.0)
    lake.ingest(_detection([], [("cat", 0, 0, 0.9)]))
    found = lake.evaluate("net")
    assert found.datapoints == 2
    assert found.overall["map"] == pytest.approx(0.5)


def test_a_box_without_a_class_and_one_on_the_attachment_itself(lake: katiml.Lake) -> None:
    own = {"task_type": "OBJECT_DETECTION", "top": 1, "left": 2, "height": 10, "width": 10}
    box = {"top": 1, "left": 2, "height": 10, "width": 10, "confidence": 0.8}
    lake.ingest(
        [
            {
                "type": "IMAGE",
                "groundtruths": [own],
                "predictions": [
                    {"task_type": "OBJECT_DETECTION", "model_name": "net", "bboxes": [box]}
                ],
            }
        ]
    )
    found = lake.evaluate("net")
    assert found.per_class["class_name"].tolist() == ["object"]
    assert found.overall["map"] == pytest.approx(1.0)


def test_masks_of_another_size_are_resized_to_the_true_one(lake: katiml.Lake) -> None:
    large, small = np.zeros((8, 8), np.uint8), np.zeros((4, 4), np.uint8)
    large[2:6, 2:6], small[1:3, 1:3] = 1, 1
    kind = {"task_type": "INSTANCE_SEGMENTATION"}
    lake.ingest(
        [
            {
                "type": "IMAGE",
                "groundtruths": [{**kind, "bboxes": [{"segmentation_mask": large}]}],
                "predictions": [
                    {
                        **kind,
                        "model_name": "net",
                        "bboxes": [{"segmentation_mask": small, "confidence": 0.9}],
                    }
                ],
            }
        ]
    )
    assert lake.evaluate("net").overall["map"] == pytest.approx(1.0)


# -- segmentation ----------------------------------------------------------------------------


def _segmented(
    truth: Any, said: Any, names: list[str] | None, other: list[str] | None
) -> dict[str, Any]:
    def mask_of(mask: Any, classes: list[str] | None) -> dict[str, Any]:
        found = {"task_type": "SEGMENTATION", "segmentation_class_mask": np.asarray(mask).tolist()}
        return found if classes is None else {**found, "class_names": classes}

    return {
        "type": "IMAGE",
        "groundtruths": [mask_of(truth, names)],
        "predictions": [{**mask_of(said, other), "model_name": "net"}],
    }


def test_segmentation_adds_up_pixels_by_the_names_of_classes(lake: katiml.Lake) -> None:
    random = np.random.default_rng(0)
    names, other = ["road", "sky", "car"], ["car", "sky", "road"]
    truths = [random.integers(0, 3, (6, 9)) for _ in range(5)]
    # The model counts its classes the other way round.
    said = [np.where(random.random(t.shape) < 0.7, 2 - t, 0) for t in truths]
    lake.ingest([_segmented(t, s, names, other) for t, s in zip(truths, said, strict=True)])
    found = lake.evaluate("net")
    expected = confusion_matrix(
        [names[v] for t in truths for v in t.reshape(-1)],
        [other[v] for s in said for v in s.reshape(-1)],
        labels=sorted(names),
    )
    assert found.confusion_matrix.to_numpy().tolist() == expected.tolist()
    iou = np.diag(expected) / (expected.sum(0) + expected.sum(1) - np.diag(expected))
    np.testing.assert_allclose(found.per_class["iou"], iou)
    assert found.overall["mean_iou"] == pytest.approx(iou.mean())
    assert found.overall["accuracy"] == pytest.approx(np.diag(expected).sum() / expected.sum())
    worst = found.mistakes("sky", limit=3)
    assert len(worst) == 3 and worst["pixels"].is_monotonic_decreasing
    assert set(worst["truth"]) == {"sky"}


def test_pixels_without_a_name_and_ignored_classes_are_left_out(lake: katiml.Lake) -> None:
    lake.ingest([_segmented([[0, 0, 1, 255]], [[0, 1, 1, 0]], ["road", "sky"], None)])
    found = lake.evaluate("net")
    assert (found.confusion.total, found.ignored_pixels) == (3, 1)
    assert found.overall["accuracy"] == pytest.approx(2 / 3)
    without = lake.evaluate("net", ignore_classes=["sky"])
    assert (without.confusion.total, without.ignored_pixels) == (2, 2)


def test_masks_are_read_in_blocks(lake: katiml.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    masks = [random.integers(0, 3, (5, 5)) for _ in range(7)]
    lake.ingest([_segmented(mask, mask, None, None) for mask in masks])
    monkeypatch.setattr("katiml.evaluation.segmentation._BLOCK_ROWS", 2)
    found = lake.evaluate("net")
    assert found.confusion.total == 7 * 25
    assert found.overall["mean_iou"] == 1.0


# -- what cannot be evaluated ----------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[katiml.Lake]:
    """A model with classes and boxes."""
    records = classified(10)
    for record, one in zip(
        records, _detection([("cat", 0, 0)], [("cat", 0, 0, 0.9)]), strict=False
    ):
        one["predictions"][0]["model_name"] = "large"
        record["groundtruths"] += one["groundtruths"]
        record["predictions"] += one["predictions"]
    with katiml.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.ingest(records)
        yield lake


def test_one_of_several_task_types_has_to_be_named(mixed: katiml.Lake) -> None:
    with pytest.raises(InvalidInput, match="CLASSIFICATION and OBJECT_DETECTION"):
        mixed.evaluate("large")
    assert mixed.evaluate("large", task_type="OBJECT_DETECTION").datapoints == 1
    assert mixed.evaluate("large", task_type="CLASSIFICATION").datapoints == 10


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"model_name": "lrage"}, "no predictions of a model 'lrage'"),
        ({"model_name": 3}, "model_name is 3"),
        ({"model_name": []}, "no model is named"),
        ({"task_type": "COMPLETION"}, "'COMPLETION' cannot be evaluated"),
        ({"task_type": "SMELL"}, "task_type is 'SMELL'"),
        ({"task_type": "SEMANTIC_SEGMENTATION"}, "no ground truths of SEGMENTATION"),
        ({"filters": {"left": "type", "op": "=", "right": "TEXT"}}, "no ground truths of"),
        ({"filters": {"left": "colour", "op": "=", "right": "red"}}, "unknown field 'colour'"),
        ({"iou_threshold": 1.5}, "iou_threshold is 1.5"),
        ({"min_confidence": "high"}, "min_confidence is 'high'"),
        ({"ignore_classes": "sky"}, "ignore_classes is 'sky'"),
        ({"ignore_classes": [3]}, "ignore_classes is"),
    ],
)
def test_what_is_wrong_is_said(mixed: katiml.Lake, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(katiml.KatiMLError, match=problem):
        mixed.evaluate(**{"model_name": "large", "task_type": "CLASSIFICATION", **options})


def test_predictions_of_other_datapoints_only(lake: katiml.Lake) -> None:
    label = {"task_type": "CLASSIFICATION", "class_name": "cat"}
    lake.ingest(
        [
            {"type": "IMAGE", "groundtruths": [label]},
            {"type": "IMAGE", "predictions": [{**label, "model_name": "net"}]},
        ]
    )
    with pytest.raises(InvalidInput, match="has predicted none of the 1 datapoints"):
        lake.evaluate("net")


def test_it_is_printed_for_people_and_given_as_plain_values(mixed: katiml.Lake) -> None:
    found = mixed.evaluate("large", task_type="OBJECT_DETECTION")
    text = str(found)
    assert "map 1.0000" in text and "OBJECT_DETECTION" in text and "1 datapoints" in text
    assert "<Evaluation of 'large', OBJECT_DETECTION: map 1.0000" in repr(found)
    plain = found.to_dict()
    assert plain["overall"]["map_large"] is None
    assert plain["per_class"][0]["class_name"] == "cat"
    assert plain["confusions"] == [{"truth": "cat", "predicted": "cat", "count": 1}]
