"""Lanes are paired as CULane pairs them, and labels the model doubts are found."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicSpline
from scipy.optimize import linear_sum_assignment

import katiml
from katiml.errors import InvalidInput
from katiml.evaluation.lanes import bands, curve, least_cost_pairs, matched_lanes, overlaps
from katiml.evaluation.mislabeling import mislabeling_histogram, mislabeling_scores


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.integers(0, 6).map(float))
    )
)
def test_pairs_cost_as_little_as_scipys(cost: Any) -> None:
    rows, columns = least_cost_pairs(cost)
    wanted = linear_sum_assignment(cost)
    assert cost[rows, columns].sum() == cost[wanted].sum()
    assert len(rows) == min(cost.shape)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(set(columns.tolist())) == len(columns)


@given(
    arrays(np.float64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.integers(0, 100)),
)
def test_curves_are_natural_cubic_splines(points: Any) -> None:
    points = points[np.concatenate([[True], np.abs(np.diff(points, axis=0)).sum(axis=1) > 0])]
    if len(points) < 3:
        assert curve(points).tolist() == points.tolist()
        return
    along = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    spline = CubicSpline(along, points, bc_type="natural")
    between = np.concatenate(
        [low + (high - low) * np.arange(8) / 8 for low, high in pairwise(along)]
    )
    assert np.allclose(curve(points), spline(np.append(between, along[-1])), atol=1e-6)


def test_points_that_repeat_are_one() -> None:
    assert curve(np.array([[1.0, 1.0], [1.0, 1.0]])).tolist() == [[1.0, 1.0]]


def test_bands() -> None:
    line = np.array([[50.0, 0.0], [50.0, 100.0]])
    (band,) = bands([line], 100, 100).reshape(1, 100, 100)
    assert band.any(axis=1).all()
    assert 5 <= band[50].sum() <= 6
    assert band[50, 48:53].all()
    # Larger images are drawn small.
    assert bands([line], 4_000, 2_000).shape == (1, 256 * 128)
    assert overlaps(bands([line], 100, 100), bands([line, line + 3], 100, 100))[0, 1] < 0.5
    assert not bands([line * 1e9, np.zeros((0, 2))], 100, 100)[1].any()


def test_each_lane_is_paired_once_and_only_where_bands_overlap() -> None:
    line = np.array([[0.0, 0.0], [2.0, 50.0], [0.0, 100.0]])
    truths = [line + np.array([x, 0]) for x in (20, 50, 80)]
    predicted = [line + np.array([x, 0]) for x in (81, 19, 20, 60)]
    assert matched_lanes(truths, predicted, 100, 100) == [(0, 2), (2, 0)]
    assert matched_lanes([], predicted, 100, 100) == []
    assert matched_lanes(truths, [], 100, 100) == []


def lane(x: float, confidence: float | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"coco_polyline": [x, 0.0, x + 2, 50.0, x, 100.0]}
    return item if confidence is None else {**item, "confidence": confidence}


def road(name: str, truths: list[Any], predicted: list[Any], **metadata: Any) -> dict[str, Any]:
    return {
        "type": "IMAGE",
        "metadata": {"uri": name, **metadata},
        "groundtruths": [{"task_type": "LANE_DETECTION", "lanes": truths}],
        "predictions": [{"task_type": "LANE_DETECTION", "model_name": "net", "lanes": predicted}],
    }


ROADS = [
    road("sure", [lane(20), lane(80)], [lane(20, 0.9), lane(80, 0.8)], width=100, height=100),
    road("doubt", [lane(20), lane(80)], [lane(20, 0.9), lane(80, 0.25)], width=100, height=100),
    # A confident lane that nobody drew does not count, and neither does a doubtful one.
    road("extra", [lane(20)], [lane(20, 0.5), lane(80, 0.1)], width=100, height=100),
    road("elsewhere", [lane(20)], [lane(80, 0.9)], width=100, height=100),
    road("no size", [lane(20), lane(80)], [lane(20, 0.75), lane(80, 0.8)]),
    road("nothing", [], []),
]


def test_scores_of_lanes(lake: katiml.Lake) -> None:
    lake.ingest(ROADS)
    ids, scores, task_type = mislabeling_scores(lake.scope)
    names = dict(lake.datapoints.select(fields=["id", "metadata.uri"]).to_numpy())
    assert task_type == "LANE_DETECTION"
    found = {names[id_]: score for id_, score in zip(ids, scores, strict=True)}
    assert found == pytest.approx({"sure": 0.2, "doubt": 0.75, "extra": 0.5, "no size": 0.25})
    answer = mislabeling_histogram(lake.scope, model_name="net")
    buckets = answer["histogram"]
    assert (answer["task_type"], answer["title"], len(buckets)) == (
        "LANE_DETECTION",
        "Mislabeling",
        10,
    )
    assert [names[id_] for id_ in list(buckets.values())[-1]["datapoints"]] == ["doubt"]
    assert sum(len(bucket["datapoints"]) for bucket in buckets.values()) == 4
    assert mislabeling_histogram(lake.scope, model_name="other")["histogram"] == {}
    only = [{"left": "metadata.uri", "op": "=", "right": "sure"}]
    assert len(mislabeling_histogram(lake.scope, only)["histogram"]) == 1


def test_scores_of_classes(tmp_path: Path) -> None:
    def image(truth: str, confidences: list[float], model: str = "net") -> dict[str, Any]:
        return {
            "type": "IMAGE",
            "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": truth}],
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": model,
                    "class_names": ["cat", "dog"],
                    "confidences": confidences,
                }
            ],
        }

    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest([image("cat", [0.9, 0.1]), image("cat", [0.2, 0.8]), image("cow", [0.5, 0.5])])
        _, scores, task_type = mislabeling_scores(lake.scope)
        assert task_type == "CLASSIFICATION"
        assert sorted(scores) == pytest.approx([0.1, 0.8])
        lake.ingest([image("dog", [0.4, 0.6], "other")])
        with pytest.raises(InvalidInput, match="which model"):
            mislabeling_scores(lake.scope)
        assert mislabeling_scores(lake.scope, model_name="other")[1] == pytest.approx([0.4])
