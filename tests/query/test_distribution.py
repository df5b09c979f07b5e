"""Distributions: classes of every task type, metrics, tags, columns, bins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from katiml.errors import InvalidFilter, InvalidInput
from katiml.query import Collection, distribution, histogram
from katiml.query.distribution import bin_edges, bin_labels
from katiml.store import Scope, Store
from tests.query.rows import f, put


def counts(scope: Scope, *arguments: Any, **options: Any) -> dict[str, int]:
    frame = distribution(scope, *arguments, **options)
    return dict(zip(frame["bucket"], frame["count"].tolist(), strict=True))


def label(scope: Scope, task_type: str, **fields: Any) -> tuple[str, str]:
    """A datapoint with one ground truth; returns both ids."""
    (datapoint,) = put(scope, "datapoints", [{"type": "IMAGE"}])
    row = {"datapoint": datapoint, "task_type": task_type, **fields}
    return datapoint, put(scope, "groundtruths", [row])[0]


# -- classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("task_type", ["CLASSIFICATION", "NER"])
def test_labels_by_class(scope: Scope, task_type: str) -> None:
    a, _ = label(scope, task_type, class_name="cat")
    b, _ = label(scope, task_type, class_name="dog")
    c, _ = label(scope, task_type, class_name="dog")
    label(scope, task_type)
    assert counts(scope, "datapoints", "groundtruths") == {"dog": 2, "cat": 1}
    assert counts(scope, "groundtruths") == {"dog": 2, "cat": 1}
    assert histogram(scope, "groundtruths") == {
        "histogram": {
            "dog": {"datapoints": [b, c], "index": 0},
            "cat": {"datapoints": [a], "index": 1},
        },
        "task_type": task_type,
    }


@pytest.mark.parametrize("task_type", ["OBJECT_DETECTION", "INSTANCE_SEGMENTATION"])
def test_boxes_by_class_a_datapoint_for_each_box(scope: Scope, task_type: str) -> None:
    a, truth = label(scope, task_type)
    b, _ = label(scope, task_type, class_name="bike", top=1.0)  # a label that is its own box
    names = ["car", "car", "bike", None]
    put(scope, "bboxes", [{"datapoint": a, "groundtruth": truth, "class_name": n} for n in names])
    put(scope, "bboxes", [{"datapoint": a, "class_name": "of a prediction"}])
    assert counts(scope, "datapoints", "groundtruths") == {"bike": 2, "car": 2}
    found = histogram(scope, "groundtruths")["histogram"]
    assert found["car"]["datapoints"] == [a, a]
    assert found["bike"]["datapoints"] == [a, b]


@pytest.mark.parametrize("name", ["SEGMENTATION", "SEMANTIC_SEGMENTATION"])
def test_masks_by_pixels(scope: Scope, name: str) -> None:
    a, _ = label(scope, "SEGMENTATION", metrics={"distribution": {"sky": 30, "it's": 70}})
    label(scope, "SEGMENTATION", metrics={"distribution": {"sky": 100}})
    label(scope, "SEGMENTATION", metrics={})
    label(scope, "SEGMENTATION")
    assert counts(scope, "datapoints", "groundtruths") == {"sky": 130, "it's": 70}
    assert counts(scope, "groundtruths", task_type=name) == {"sky": 130, "it's": 70}
    found = histogram(scope, "groundtruths")
    assert found["task_type"] == "SEGMENTATION"
    assert found["histogram"]["it's"] == {"datapoints": [a], "index": 1, "pixels": 70}
    assert found["histogram"]["sky"]["pixels"] == 130


def test_lanes_by_their_number(scope: Scope) -> None:
    for number in (2, 10, 2, 0):
        datapoint, truth = label(scope, "LANE_DETECTION")
        put(scope, "lanes", [{"datapoint": datapoint, "groundtruth": truth}] * number)
    assert list(counts(scope, "datapoints", "groundtruths").items()) == [
        ("0", 1),
        ("2", 2),
        ("10", 1),
    ]
    assert histogram(scope, "groundtruths")["title"] == "Number of lanes"


def test_completions_by_their_words(scope: Scope) -> None:
    datapoint, truth = label(scope, "COMPLETION")
    texts = ["one", "two words", "a  b", None]
    put(
        scope,
        "completions",
        [{"datapoint": datapoint, "groundtruth": truth, "text": text} for text in texts],
    )
    assert counts(scope, "datapoints", "groundtruths") == {"1": 1, "2": 1, "3": 1}
    assert histogram(scope, "groundtruths")["title"] == "Number of words"


def test_several_task_types_stay_apart(scope: Scope) -> None:
    a, _ = label(scope, "CLASSIFICATION", class_name="cat")
    b, truth = label(scope, "OBJECT_DETECTION")
    label(scope, "CLASSIFICATION", class_name="dog")
    put(scope, "bboxes", [{"datapoint": b, "groundtruth": truth, "class_name": "cat"}] * 5)
    frame = distribution(scope, "datapoints", "groundtruths")
    assert frame.to_dict("list") == {
        "task_type": ["CLASSIFICATION", "CLASSIFICATION", "OBJECT_DETECTION"],
        "bucket": ["cat", "dog", "cat"],
        "count": [1, 1, 5],
    }
    chosen = distribution(scope, "datapoints", "groundtruths", task_type="OBJECT_DETECTION")
    assert chosen.to_dict("list") == {"bucket": ["cat"], "count": [5]}
    # The task type of the most datapoints is shown.
    found = histogram(scope, "groundtruths")
    assert found["task_type"] == "CLASSIFICATION"
    assert found["task_types"] == ["CLASSIFICATION", "OBJECT_DETECTION"]
    assert found["histogram"]["cat"]["datapoints"] == [a]
    other = histogram(scope, "groundtruths", task_type="OBJECT_DETECTION")
    assert other["histogram"]["cat"]["datapoints"] == [b] * 5
    with pytest.raises(InvalidInput, match="task_type"):
        distribution(scope, "datapoints", "groundtruths", task_type="DETECTION")


def test_predictions_of_one_model_and_filtered_datapoints(scope: Scope) -> None:
    a, b = put(scope, "datapoints", [{"text": "a"}, {"text": "b"}])
    put(
        scope,
        "predictions",
        [
            {
                "datapoint": datapoint,
                "model_name": model,
                "task_type": "CLASSIFICATION",
                "class_name": f"{model} of {name}",
            }
            for datapoint, name in ((a, "a"), (b, "b"))
            for model in ("m1", "m2")
        ],
    )
    only_a = f("text", "=", "a")
    assert len(counts(scope, "datapoints", "predictions")) == 4
    assert counts(scope, "datapoints", "predictions", only_a, model_name="m1") == {"m1 of a": 1}
    assert counts(scope, "predictions", None, f("datapoints.text", "=", "b"), model_name="m2") == {
        "m2 of b": 1
    }
    assert list(histogram(scope, "predictions", only_a, model_name="m2")["histogram"]) == [
        "m2 of a"
    ]
    assert counts(scope, "datapoints", "predictions", model_name="x\x27; --") == {}
    with pytest.raises(InvalidInput, match="model_name"):
        distribution(scope, "datapoints", "groundtruths", model_name="m1")


# -- tags and columns ------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["tags.split", "tag/split", "tags/split"])
def test_tags_by_value(scope: Scope, field: str) -> None:
    a, b = put(scope, "datapoints", [{}, {}])
    put(
        scope,
        "tags",
        [
            {"datapoint": a, "name": "split", "value": "train"},
            {"datapoint": b, "name": "split", "value": "test"},
            {"datapoint": b, "name": "city", "value": "Rome"},
        ],
    )
    assert counts(scope, "datapoints", field) == {"test": 1, "train": 1}
    assert histogram(scope, field) == {
        "histogram": {
            "test": {"datapoints": [b], "index": 0},
            "train": {"datapoints": [a], "index": 1},
        },
        "task_type": None,
        "title": "split",
    }
    assert counts(scope, "tags") == {"split": 2, "city": 1}


def test_any_column(scope: Scope) -> None:
    widths = [10, 20, "30", None]
    ids = put(
        scope,
        "datapoints",
        [
            {"type": "IMAGE", "metadata": {"w": w, "x": w if w != 10 else "ten"}, "timestamp": t}
            for w, t in zip(widths, ["2024-05-01T10:00:00Z"] * 3 + ["2024-01-01"], strict=True)
        ],
    )
    put(scope, "predictions", [{"datapoint": ids[0], "class_names": ["a", "b"], "confidence": 0.5}])
    assert counts(scope, "datapoints") == {"IMAGE": 4}
    assert counts(scope, "datapoints", "metadata.w", bins=2) == {
        "10.00 - 20.00": 1,
        "20.00 - 30.00": 2,
    }
    assert counts(scope, "datapoints", "metadata.x") == {"20": 1, "30": 1, "ten": 1}
    assert list(counts(scope, "datapoints", "timestamp")) == ["2024-01-01", "2024-05-01"]
    assert counts(scope, "predictions", "class_names") == {"a": 1, "b": 1}
    assert counts(scope, "datapoints", "predictions.confidence") == {"0.50 - 0.50": 1}
    assert counts(scope, "datapoints", "confidence") == {"0.50 - 0.50": 1}
    for wrong in ("predictions.colour", "feature_vectors.data", 3):
        with pytest.raises(InvalidFilter):
            distribution(scope, "datapoints", wrong)  # type: ignore[arg-type]


# -- metrics ---------------------------------------------------------------------------------


def predict(scope: Scope, **fields: Any) -> tuple[str, str]:
    (datapoint,) = put(scope, "datapoints", [{}])
    row = {"datapoint": datapoint, "task_type": "CLASSIFICATION", **fields}
    return datapoint, put(scope, "predictions", [row])[0]


def test_ten_bins_with_the_highest_value_in_the_last(scope: Scope) -> None:
    edges = np.linspace(0, 1, 11).tolist()
    ids = [predict(scope, metrics={"entropy": edge})[0] for edge in edges]
    predict(scope, metrics={})
    predict(scope, metrics={"entropy": "NaN"})
    predict(scope)
    found = histogram(scope, "entropy")
    buckets = found["histogram"]
    assert list(buckets) == [f"{i / 10:.2f} - {(i + 1) / 10:.2f}" for i in range(10)]
    assert [bucket["index"] for bucket in buckets.values()] == list(range(10))
    assert [bucket["datapoints"] for bucket in buckets.values()] == [
        *([id] for id in ids[:9]),
        ids[9:],
    ]
    assert (found["task_type"], found["title"]) == ("CLASSIFICATION", "entropy")
    frame = distribution(scope, "datapoints", "metrics.entropy")
    assert frame["count"].tolist() == [1] * 9 + [2]
    assert frame["low"].tolist() == pytest.approx(np.arange(10) / 10)
    assert frame["high"].tolist() == pytest.approx(np.arange(1, 11) / 10)


@pytest.mark.parametrize("field", ["entropy", "metrics.entropy", "predictions.metrics.entropy"])
def test_a_metric_by_any_of_its_names(scope: Scope, field: str) -> None:
    predict(scope, metrics={"entropy": 0.25}, model_name="m")
    predict(scope, metrics={"entropy": 0.75}, model_name="n")
    assert sum(counts(scope, "datapoints", field).values()) == 2
    assert counts(scope, "datapoints", field, model_name="m") == {"0.25 - 0.25": 1}
    root = field if field != "predictions.metrics.entropy" else "metrics.entropy"
    assert counts(scope, "predictions", root, f("model_name", "=", "n")) == {"0.75 - 0.75": 1}


@pytest.mark.parametrize(
    ("table", "task_type"),
    [
        ("bboxes", "OBJECT_DETECTION"),
        ("lanes", "LANE_DETECTION"),
        ("completions", "COMPLETION"),
    ],
)
def test_entropy_and_variance_add_up_over_children(
    scope: Scope, table: str, task_type: str
) -> None:
    datapoint, prediction = predict(scope, task_type=task_type)
    for value in (0.25, 0.5):
        metrics = {"entropy": value, "variance": value, "rlhf_score": value, "drift_score": value}
        row = {"datapoint": datapoint, "prediction": prediction, "metrics": metrics}
        put(scope, table, [row])
    for metric in ("entropy", "variance"):
        assert counts(scope, "datapoints", metric) == {"0.75 - 0.75": 1}
    for metric in ("rlhf_score", "drift_score"):
        assert counts(scope, "datapoints", metric) == {"0.38 - 0.38": 1}


def test_a_metric_of_the_prediction_itself_wins(scope: Scope) -> None:
    datapoint, prediction = predict(scope, metrics={"entropy": 0.1})
    put(
        scope,
        "bboxes",
        [{"datapoint": datapoint, "prediction": prediction, "metrics": {"entropy": 0.9}}],
    )
    assert counts(scope, "datapoints", "entropy") == {"0.10 - 0.10": 1}


def test_metrics_of_ground_truths(scope: Scope) -> None:
    label(scope, "CLASSIFICATION", metrics={"area": 4})
    assert counts(scope, "groundtruths", "area") == {"4.00 - 4.00": 1}
    assert counts(scope, "datapoints", "groundtruths.metrics.area") == {"4.00 - 4.00": 1}


# -- edges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["groundtruths", "predictions", "entropy", "tags.split"])
def test_nothing_selected_is_an_empty_histogram(scope: Scope, field: str) -> None:
    assert histogram(scope, field)["histogram"] == {}
    label(scope, "CLASSIFICATION", class_name="cat")
    nothing = f("text", "=", "nothing")
    assert histogram(scope, field, nothing)["histogram"] == {}
    frame = distribution(scope, "datapoints", field, nothing)
    assert len(frame) == 0
    assert frame["count"].dtype == "int64"


@pytest.mark.parametrize("bins", [0, -1, 1.5, True, "10", None, 10**6])
def test_bins_are_checked(scope: Scope, bins: Any) -> None:
    with pytest.raises(InvalidInput, match="bins"):
        distribution(scope, "datapoints", "entropy", bins=bins)


def test_a_collection_gives_distributions(scope: Scope) -> None:
    label(scope, "CLASSIFICATION", class_name="cat")
    frame = Collection(scope, "datapoints").distribution("groundtruths")
    assert frame.to_dict("list") == {"bucket": ["cat"], "count": [1]}


def test_bins_agree_with_numpy(scope: Scope) -> None:
    values = np.random.default_rng(0).normal(size=200).round(2)
    values = np.concatenate([values, [values.min(), values.max(), 0.1, 0.2, 0.3]])
    (datapoint,) = put(scope, "datapoints", [{}])
    put(
        scope,
        "predictions",
        [{"datapoint": datapoint, "metrics": {"entropy": value}} for value in values.tolist()],
    )
    for bins in (1, 3, 7, 10, 50):
        expected, edges = np.histogram(values, bins)
        frame = distribution(scope, "datapoints", "entropy", bins=bins)
        assert frame["count"].tolist() == expected.tolist()
        assert [*frame["low"], frame["high"].iloc[-1]] == edges.tolist()


def test_organizations_are_counted_apart(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    label(ours, "CLASSIFICATION", class_name="cat")
    datapoint, truth = label(theirs, "OBJECT_DETECTION")
    put(theirs, "bboxes", [{"datapoint": datapoint, "groundtruth": truth, "class_name": "dog"}])
    assert counts(ours, "datapoints", "groundtruths") == {"cat": 1}
    assert counts(theirs, "datapoints", "groundtruths") == {"dog": 1}


@given(
    st.floats(-1e300, 1e300, allow_subnormal=False),
    st.floats(-1e300, 1e300, allow_subnormal=False),
    st.integers(1, 30),
)
@example(0.0, 1e-12, 10)
@example(1e15, 1e15 + 1, 10)
def test_labels_are_all_different_and_edges_rise(a: float, b: float, bins: int) -> None:
    edges = bin_edges(min(a, b), max(a, b), bins)
    assert edges[0] == min(a, b)
    assert edges[-1] == max(a, b)
    assert np.all(np.diff(edges) >= 0)
    labels = bin_labels(edges)
    if len(set(edges.tolist())) == len(edges):
        assert len(set(labels)) == len(labels)
    assert math.isfinite(edges.sum() / len(edges))
