"""Every older spelling reads as today's."""

import json

import pytest
from msgspec import UNSET

from katiml.records import parse_lines
from katiml.records.legacy import normalise


def read(record: dict):
    parsed = parse_lines(json.dumps(record).encode())
    assert not parsed.rejected, parsed.rejected
    return parsed.records[0]


def refused(record: dict):
    parsed = parse_lines(json.dumps(record).encode())
    assert not parsed.records
    return parsed.rejected[0].path, parsed.rejected[0].reason


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (
            {"image_metadata.uri": "a", "image_metadata.roi.top": 1},
            {"metadata": {"uri": "a", "roi": {"top": 1}}, "type": "IMAGE"},
        ),
        ({"video_metadata": {"frame": 1}}, {"metadata": {"frame": 1}, "type": "VIDEO"}),
        ({"audio_metadata": {}}, {"metadata": {}, "type": "AUDIO"}),
        ({"text_metadata": {"a": 1}}, {"metadata": {"a": 1}, "type": "TEXT"}),
        (
            {"image_metadata": {"a": 1, "b": 1}, "metadata": {"b": 2}},
            {"metadata": {"a": 1, "b": 2}, "type": "IMAGE"},
        ),
        ({"image_metadata": None, "type": "IMAGE"}, {"type": "IMAGE"}),
        ({"tags.a": "b", "tags": {"c": "d"}}, {"tags": {"c": "d", "a": "b"}}),
        ({"tags.a.b": "c"}, {"tags": {"a.b": "c"}}),
        ({"__time": 5}, {"timestamp": 5}),
        ({"__time": 5, "timestamp": 6}, {"timestamp": 6}),
        ({"tags": {"a": 1, "b": False}}, {"tags": {"a": "1", "b": "false"}}),
    ],
)
def test_datapoints(sent, meant):
    assert normalise(sent) == meant


CAT = {"task_type": "CLASSIFICATION", "class_name": "cat"}


@pytest.mark.parametrize("name", ["groundtruth", "prediction"])
@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("cat", [CAT]),
        (["cat", None, {"class_name": "dog"}], [CAT, None, {**CAT, "class_name": "dog"}]),
        ({"class_name": "cat"}, [CAT]),
        ({"class_name": 7}, [{**CAT, "class_name": "7"}]),
        (None, []),
        ({"completions": ["a"]}, [{"completions": [{"text": "a"}], "task_type": "COMPLETION"}]),
        (
            {"top": 1, "left": 2, "bottom": 4, "right": 7, "class_name": "cat"},
            [
                {
                    "task_type": "OBJECT_DETECTION",
                    "class_name": "cat",
                    "top": 1,
                    "left": 2,
                    "height": 3,
                    "width": 5,
                }
            ],
        ),
        (
            {"segmentation_class_mask": [[0]], "class_names": [0, 1]},
            [
                {
                    "segmentation_class_mask": [[0]],
                    "class_names": ["0", "1"],
                    "task_type": "SEGMENTATION",
                }
            ],
        ),
        (
            {"metrics.f1": 1, "start": 3, "task_type": "NER"},
            [{"task_type": "NER", "metrics": {"f1": 1, "start": 3}}],
        ),
    ],
)
def test_attachments(name, sent, meant):
    assert normalise({name: sent}) == {f"{name}s": meant}
    assert normalise({f"{name}s": sent}).get(f"{name}s") == (None if sent is None else meant)


def test_singular_and_plural_are_joined():
    result = normalise({"predictions": [CAT], "prediction": "dog"})
    assert [item["class_name"] for item in result["predictions"]] == ["cat", "dog"]


def test_flat_names_of_attachments():
    result = normalise({"prediction.class_name": "cat", "prediction.embeddings.layer4.0": [1]})
    assert result["predictions"] == [{**CAT, "embeddings": {"layer4.0": [1]}}]


def test_boxes_of_either_spelling():
    record = read(
        {
            "type": "IMAGE",
            "groundtruths": [
                {"task_type": "OBJECT_DETECTION", "bboxes": [{"top": 1, "left": 2, "bottom": 4}]}
            ],
        }
    )
    box = record.groundtruths[0].bboxes[0]
    assert (box.top, box.left, box.height, box.width) == (1, 2, 3, UNSET)
    path, reason = refused({"type": "IMAGE", "groundtruth": {"bottom": 4}})
    assert (path, reason) == ("groundtruths[0].bottom", "bottom needs top, both as numbers")


def test_an_update_of_an_attachment_gets_no_task_type():
    assert normalise({"predictions": [{"id": "x", "class_name": "y"}]}) == {
        "predictions": [{"id": "x", "class_name": "y"}]
    }


def test_text_forces_its_type():
    assert read({"text": "a"}).type == "TEXT"
    assert read({"text": "a", "type": "IMAGE"}).type == "TEXT"
    assert read({"text": None, "type": "IMAGE"}).type == "IMAGE"


def test_model_id_names_the_model_of_predictions_without_one():
    result = normalise(
        {"model_id": "m", "predictions": [CAT, {**CAT, "model_name": "n"}, {**CAT, "model_id": 3}]}
    )
    assert [item["model_name"] for item in result["predictions"]] == ["m", "n", "3"]


def test_columns_of_the_lake_and_of_the_event_format_are_passed_over():
    assert normalise(
        {
            "created_at": "x",
            "model_type": "IMAGE_CLASSIFIER",
            "benchmark_id": "b",
            "groundtruths": [
                {
                    **CAT,
                    "datapoint": "x",
                    "encoded_resized_segmentation_class_mask": "x",
                    "bboxes": [{"top": 1, "groundtruth": "x", "prediction": None}],
                }
            ],
        }
    ) == {"groundtruths": [{**CAT, "bboxes": [{"top": 1}]}]}


@pytest.mark.parametrize(
    ("record", "path", "reason"),
    [
        ({"groundtruht": "cat"}, "groundtruht", "did you mean 'groundtruths'"),
        ({"colour.hue": 1}, "colour", "unknown field 'colour' (fields are: "),
        ({"tags": "x", "tags.a": 1}, "tags.a", "'tags' is also sent, and is no object"),
        ({"image_metadata": 3}, "image_metadata", "metadata is an object"),
        ({"image_metadata": {}, "metadata": 3}, "image_metadata", "metadata is an object"),
        ({"prediction": 3}, "predictions[0]", "an object is expected"),
        ({"prediction": {"start": 1, "metrics": 3}}, "predictions[0].metrics", "an object"),
    ],
)
def test_what_means_nothing_is_refused(record, path, reason):
    found_path, found_reason = refused({"type": "IMAGE", **record})
    assert found_path == path
    assert reason in found_reason


def test_the_old_name_of_segmentation_reads_as_the_new():
    record = read(
        {
            "type": "IMAGE",
            "groundtruth": {"task_type": "SEMANTIC_SEGMENTATION"},
            "prediction": {"task_type": "SEMANTIC_SEGMENTATION"},
        }
    )
    assert record.groundtruths[0].task_type == record.predictions[0].task_type == "SEGMENTATION"
