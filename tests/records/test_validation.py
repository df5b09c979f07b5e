"""Ground truths and predictions: what is accepted, in which form it is kept, what is refused."""

import json
from typing import get_args

import numpy as np
import pytest
from msgspec import UNSET

from katiml.records import BoundingBox, GroundTruth, Prediction, arrays, model, parse_objects
from katiml.records.parse import parse_lines
from katiml.schema import DATAPOINT_TYPES, TABLES, TASK_TYPES

ID = "0190f0e0-0000-7000-8000-00000000000a"


def send(record: dict, *, as_line: bool):
    if as_line:
        return parse_lines(json.dumps(record).encode())
    return parse_objects([record])


@pytest.fixture(params=[True, False], ids=["line", "object"])
def accept(request):
    def accepted(**prediction) -> Prediction:
        prediction = {"task_type": "CLASSIFICATION", **prediction}
        parsed = send({"type": "IMAGE", "predictions": [prediction]}, as_line=request.param)
        assert not parsed.rejected, parsed.rejected
        return parsed.records[0].predictions[0]

    return accepted


@pytest.fixture(params=[True, False], ids=["line", "object"])
def refuse(request):
    def refused(**prediction) -> tuple[str, str]:
        prediction = {"task_type": "CLASSIFICATION", **prediction}
        parsed = send({"type": "IMAGE", "predictions": [None, prediction]}, as_line=request.param)
        assert not parsed.records
        path = parsed.rejected[0].path
        assert path.startswith("predictions[1]."), path
        return path.removeprefix("predictions[1]."), parsed.rejected[0].reason

    return refused


def test_the_types_are_those_of_the_schema():
    assert get_args(model.DatapointType) == DATAPOINT_TYPES
    assert set(get_args(model.TaskType)) == {*TASK_TYPES, "SEMANTIC_SEGMENTATION"}


@pytest.mark.parametrize(
    ("table", "kind"),
    [("groundtruths", GroundTruth), ("predictions", Prediction), ("bboxes", BoundingBox)],
)
def test_what_a_table_holds_can_be_sent(table, kind):
    written_by_the_lake = {"organization_id", "datapoint", "created_at", "groundtruth"}
    written_by_the_lake |= {"prediction", "encoded_resized_segmentation_class_mask"}
    written_by_the_lake |= {"encoded_resized_segmentation_mask", "since", "origins"}
    assert set(TABLES[table].columns) - written_by_the_lake <= set(kind.__struct_fields__)


def test_each_form_of_an_embedding(accept):
    prediction = accept(
        embeddings={"flat": [1, 2.5], "layer.2": [[1, 2], [3, 4]], "gone": [], "null": None},
        grad_embeddings=[1, 2],
    )
    embeddings = prediction.embeddings
    assert list(embeddings) == ["flat", "layer.2", "gone", "null"]
    assert embeddings["flat"].tolist() == [1, 2.5]
    assert embeddings["flat"].dtype == np.float32
    assert embeddings["layer.2"].shape == (2, 2)
    assert embeddings["gone"] is None
    assert embeddings["null"] is None
    assert prediction.grad_embeddings[""].tolist() == [1, 2]
    assert prediction.logits is UNSET


@pytest.mark.parametrize("empty", [None, [], {}])
def test_no_embeddings_and_no_logits_are_null(accept, empty):
    prediction = accept(embeddings=empty, grad_embeddings=empty)
    assert prediction.embeddings is None
    assert prediction.grad_embeddings is None
    assert accept(logits=empty or None).logits is None


def test_values_past_float32_are_kept_in_float64(accept):
    assert accept(logits=[1e300, 0]).logits.tolist() == [1e300, 0]
    assert accept(embeddings=[[1e39, 0]]).embeddings[""].dtype == np.float64
    assert accept(logits=[3e38, -3e38]).logits.dtype == np.float32


@pytest.mark.parametrize(
    ("task", "shape", "allowed"),
    [
        ("CLASSIFICATION", (3,), True),
        ("CLASSIFICATION", (5, 3), True),
        ("CLASSIFICATION", (3, 4, 4), False),
        ("SEGMENTATION", (3, 4, 4), True),
        ("SEMANTIC_SEGMENTATION", (2, 3, 4, 4), True),
        ("SEGMENTATION", (3,), False),
        ("OBJECT_DETECTION", (3,), True),
        ("OBJECT_DETECTION", (2, 3, 4, 4), False),
    ],
)
def test_the_dimensions_of_logits_follow_the_task(accept, refuse, task, shape, allowed):
    logits = np.zeros(shape).tolist()
    if allowed:
        names = {"class_names": ["a", "b", "c"]}
        assert accept(task_type=task, logits=logits, **names).logits.shape == shape
    else:
        path, reason = refuse(task_type=task, logits=logits)
        assert path == "logits"
        assert str(shape) in reason


@pytest.mark.parametrize(
    ("logits", "names", "allowed"),
    [
        ([0.1], ["yes", "no"], True),
        ([[0.1], [0.2]], ["yes", "no"], True),
        ([0.1], ["yes"], True),
        ([0.1], ["a", "b", "c"], False),
        ([0.1, 0.2], ["a", "b", "c"], False),
        ([[0.1, 0.2]], ["a"], False),
        ([0.1, 0.2], None, True),
        ([0.1, 0.2], [], True),
    ],
)
def test_logits_and_class_names_agree(accept, refuse, logits, names, allowed):
    if allowed:
        assert accept(logits=logits, class_names=names).logits.tolist() == pytest.approx(
            np.array(logits)
        )
    else:
        path, reason = refuse(logits=logits, class_names=names)
        assert path == "logits"
        assert f"{len(names)} class_names" in reason


def test_segmentation_logits_and_class_names_agree(refuse):
    path, _ = refuse(task_type="SEGMENTATION", logits=[[[1.0]], [[2.0]]], class_names=["a"])
    assert path == "logits"


ARRAY_FAULTS = [
    ({"logits": [1, "2"]}, "logits[1]", "'2' is not a number"),
    ({"logits": ["1", "2"]}, "logits[0]", "'1' is not a number"),
    ({"logits": [1.0, None]}, "logits[1]", "is not a number"),
    ({"logits": [[1, 2], [3]]}, "logits[1]", "1 values where 2 are expected"),
    ({"logits": [[1, 2], 3]}, "logits[1]", "a single value where 2 are expected"),
    ({"logits": [1, [2]]}, "logits[1]", "1 values where a number is expected"),
    ({"logits": [1, float("nan")]}, "logits[1]", "nan is not a finite number"),
    ({"logits": [[1, 2], [3, float("inf")]]}, "logits[1][1]", "inf is not a finite number"),
    ({"logits": 3}, "logits", "shape ()"),
    ({"logits": {"a": 1}}, "logits", "an array of numbers"),
    ({"logits": "AAAA"}, "logits", "not a .npy file"),
    ({"logits": [[[[[1]]]]]}, "logits", "shape (1, 1, 1, 1, 1)"),
    ({"embeddings": {"a": [1, "x"]}}, "embeddings.a[1]", "'x' is not a number"),
    ({"embeddings": {"a": {"b": [1]}}}, "embeddings.a", "an array of numbers"),
    ({"embeddings": {"a": [float("nan")]}}, "embeddings.a[0]", "nan"),
    ({"embeddings": "no"}, "embeddings", "not"),
    ({"embeddings": [[[[1]]]]}, "embeddings", "1-D or 2-D or 3-D"),
    ({"encoded_logits": [1]}, "encoded_logits", "encoded arrays are text"),
    ({"encoded_logits": "AAAA", "logits": [1]}, "encoded_logits", "not both"),
    ({"segmentation_class_mask": [1, 2]}, "segmentation_class_mask", "height x width"),
    ({"segmentation_class_mask": []}, "segmentation_class_mask", "height x width"),
    ({"segmentation_class_mask": [[0.5]]}, "segmentation_class_mask[0][0]", "whole numbers"),
    ({"segmentation_class_mask": [[0, 2**31]]}, "segmentation_class_mask[0][1]", "32 bits"),
    ({"segmentation_class_mask": [[1], [1, 2]]}, "segmentation_class_mask[1]", "2 values where 1"),
    ({"encoded_segmentation_class_mask": "x"}, "segmentation_class_mask", "base64"),
]


@pytest.mark.parametrize(("fields", "path", "reason"), ARRAY_FAULTS)
def test_arrays_that_are_none_are_refused_where_they_are_wrong(refuse, fields, path, reason):
    found_path, found_reason = refuse(**fields)
    assert found_path == path
    assert reason in found_reason


FAULTS = [
    ({"task_type": None}, "task_type", "needs a task_type"),
    ({"task_type": "GUESSING"}, "task_type", "unknown task_type 'GUESSING'"),
    ({"id": ID}, "id", "needs the id of its datapoint"),
    ({"id": "x"}, "id", "'x' is not an id"),
    ({"clas_name": "x"}, "clas_name", "did you mean 'class_name'?"),
    ({"class_name": 1.5}, "class_name", "expected text, got a number"),
    ({"class_name": "x" * 1001}, "class_name", "more than 1,000 characters"),
    ({"class_names": ["a", None]}, "class_names[1]", "expected text, got null"),
    ({"confidences": [0.5], "class_names": ["a", "b"]}, "confidences", "2 class_names"),
    ({"confidences": [0.5, None]}, "confidences[1]", "expected a number, got null"),
    ({"confidence": "high"}, "confidence", "expected a number, got text"),
    ({"metrics": {"f1": "good"}}, "metrics.f1", "a metric is a number"),
    ({"metrics": {"f1": True}}, "metrics.f1", "a metric is a number"),
    ({"metrics": []}, "metrics", "expected an object, got a list"),
    ({"bboxes": [{"id": ID}]}, "bboxes[0].id", "around it"),
    ({"bboxes": [{"coco_polygon": [1, 2, 3, 4]}]}, "bboxes[0].coco_polygon", "at least 6"),
    ({"bboxes": [{"coco_polygon": [1] * 7}]}, "bboxes[0].coco_polygon", "7 numbers"),
    ({"bboxes": [{"coco_polygon": [[1] * 6]}]}, "bboxes[0].coco_polygon[0]", "a number"),
    ({"bboxes": [{"width": -1}]}, "bboxes[0].width", "below 0"),
    ({"bboxes": [{"top": "1"}]}, "bboxes[0].top", "expected a number, got text"),
    ({"bboxes": [{"wdth": 1}]}, "bboxes[0].wdth", "did you mean 'width'?"),
    ({"bboxes": [{"segmentation_mask": [[0.5]]}]}, "bboxes[0].segmentation_mask[0][0]", "whole"),
    ({"bboxes": [3]}, "bboxes[0]", "an object is expected"),
    ({"bboxes": {}}, "bboxes", "expected a list, got an object"),
    ({"lanes": [{"coco_polyline": [1, 2]}]}, "lanes[0].coco_polyline", "at least 4"),
    (
        {"lanes": [{"classifications": [{"class_names": ["a"], "confidences": [1, 0]}]}]},
        "lanes[0].classifications[0].confidences",
        "2 confidences",
    ),
    ({"completions": [{"text": 3}]}, "completions[0].text", "expected text"),
    ({"completions": [{"metrics": {"a": "b"}}]}, "completions[0].metrics.a", "a metric"),
]


@pytest.mark.parametrize(("fields", "path", "reason"), FAULTS)
def test_a_wrong_attachment_is_refused_where_it_is_wrong(refuse, fields, path, reason):
    found_path, found_reason = refuse(**fields)
    assert found_path == path
    assert reason in found_reason


def test_null_entries_are_dropped(accept):
    prediction = accept(
        bboxes=[None, {"top": 1, "left": None}],
        lanes=[None],
        completions=[{"text": "a"}, None],
        metrics={"a": None, "b": 1, "c": {"d": 2}},
    )
    assert [box.top for box in prediction.bboxes] == [1]
    assert prediction.bboxes[0].left is None
    assert prediction.lanes == []
    assert [completion.text for completion in prediction.completions] == ["a"]
    assert prediction.metrics == {"b": 1, "c": {"d": 2}}


def test_an_attachment_with_an_id_updates(accept):
    record = {"id": ID, "predictions": [{"id": ID.upper(), "bboxes": [{"id": ID, "top": 1}]}]}
    prediction = parse_objects([record]).records[0].predictions[0]
    assert prediction.id == prediction.bboxes[0].id == ID
    assert prediction.task_type is UNSET


def test_logits_of_an_update_may_have_any_shape_as_the_task_is_not_known():
    for dimensions in (1, 2, 3, 4):
        logits = np.ones((2,) * dimensions)
        record = {"id": ID, "predictions": [{"id": ID, "logits": logits}]}
        assert parse_objects([record]).records[0].predictions[0].logits.shape == logits.shape


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[0, 255]], np.uint8),
        ([[0, 256]], np.uint16),
        ([[-1, 200]], np.int16),
        ([[0, 70_000]], np.uint32),
        ([[-1, 2**31 - 1]], np.int32),
        ([[0.0, 3.0]], np.uint8),
        ([[True, False]], np.uint8),
    ],
)
def test_masks_are_small_integers(accept, values, dtype):
    mask = accept(task_type="SEGMENTATION", segmentation_class_mask=values)
    assert mask.segmentation_class_mask.dtype == dtype
    assert mask.segmentation_class_mask.tolist() == values


def test_encoded_arrays_are_decoded(accept):
    mask = np.array([[[1, 2], [3, 4]]], dtype=np.int64)
    prediction = accept(
        task_type="SEGMENTATION",
        encoded_segmentation_class_mask=arrays.encode(mask),
        encoded_logits=arrays.encode(np.zeros((5, 2, 2), np.float16)),
        bboxes=[{"encoded_segmentation_mask": arrays.encode(mask[0] > 1)}],
    )
    assert prediction.segmentation_class_mask.tolist() == mask[0].tolist()
    assert prediction.encoded_segmentation_class_mask is UNSET
    assert prediction.logits.shape == (5, 2, 2)
    assert prediction.logits.dtype == np.float32
    assert prediction.encoded_logits is UNSET
    assert prediction.bboxes[0].segmentation_mask.tolist() == [[0, 1], [1, 1]]
    assert prediction.bboxes[0].encoded_segmentation_mask is UNSET


def test_encoded_arrays_with_nan_are_refused(refuse):
    path, reason = refuse(encoded_logits=arrays.encode(np.array([0.0, np.nan])))
    assert path == "logits[1]"
    assert "nan" in reason


class Tensor:
    """What a torch tensor on a GPU that requires gradients lets one do."""

    def __init__(self, values, attached=True):
        self.values, self.attached, self.dtype = np.asarray(values), attached, "torch.float32"

    def detach(self):
        return Tensor(self.values, attached=False)

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        if self.attached:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.values


@pytest.mark.parametrize(
    "make", [np.float16, np.float64, np.int8, Tensor, tuple, lambda v: np.array(v)[::-1][::-1]]
)
def test_python_arrays_of_any_kind(make):
    record = {"type": "IMAGE", "prediction": {"task_type": "CLASSIFICATION"}}
    record["prediction"] |= {"logits": make([1, 2]), "embeddings": {"a": make([3, 4])}}
    prediction = parse_objects([record]).records[0].predictions[0]
    for array, expected in ((prediction.logits, [1, 2]), (prediction.embeddings["a"], [3, 4])):
        assert array.tolist() == expected
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
