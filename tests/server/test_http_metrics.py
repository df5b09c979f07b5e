"""`/api/metrics/evaluate`: the metrics of a model."""

from __future__ import annotations

import pytest

from tests.evaluation.test_evaluate import classified
from tests.server.conftest import Api

METRICS = ["accuracy", "precision", "recall", "f1", "mean-iou"]


@pytest.fixture
def served(api: Api) -> Api:
    api.lake.ingest(classified())
    return api


@pytest.mark.parametrize("metric", METRICS)
def test_one_metric_overall_and_by_class(served: Api, metric: str) -> None:
    body = {"model_name": "small", "datapoint_filters": [], "dataset_id": None}
    answer = served.rows(f"/api/metrics/evaluate/{metric}", body)
    expected = served.lake.evaluate("small")
    name, column = {
        "accuracy": ("accuracy", "recall"),
        "mean-iou": ("iou_macro", "iou"),
    }.get(metric, (f"{metric}_macro", metric))
    assert answer["value"] == pytest.approx(expected.overall[name])
    assert answer["metric"] == metric
    assert (answer["datapoints"], answer["without_prediction"]) == (54, 6)
    by_class = {row["class_name"]: row["value"] for row in answer["per_class"]}
    assert by_class == pytest.approx(
        dict(zip(expected.per_class["class_name"], expected.per_class[column], strict=True))
    )


def test_everything_at_once_with_filters(served: Api) -> None:
    half = [
        {"left": "tags.name", "op": "=", "right": "half"},
        {"left": "tags.value", "op": "=", "right": "1"},
    ]
    body = {"model_name": "large", "datapoint_filters": half, "count_missing": True}
    expected = served.lake.evaluate("large", half, count_missing=True).to_dict()
    assert served.rows("/api/metrics/evaluate", body) == expected


def test_mistakes(served: Api) -> None:
    body = {"model_name": "small", "truth": "cat", "predicted": "dog", "limit": 1}
    rows = served.rows("/api/metrics/evaluate/mistakes", body)
    expected = served.lake.evaluate("small").mistakes("cat", "dog", limit=1)
    assert rows == expected.to_dict("records")
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {}, 422),
        ("", {"model_name": "nobody"}, 404),
        ("", {"model_name": "small", "modelName": "small"}, 422),
        ("", {"model_name": "small", "iou_threshold": 7}, 422),
        ("", {"model_name": "small", "task_type": "COMPLETION"}, 400),
        ("", {"model_name": "small\u0000"}, 400),
        ("", {"model_name": "small", "datapoint_filters": [{"left": "x"}]}, 400),
        ("/map", {"model_name": "small"}, 400),
        ("/mistakes", {"model_name": "small", "truth": "cow"}, 400),
        ("/colour", {"model_name": "small"}, 404),
    ],
)
def test_wrong_requests_are_answered(
    served: Api, path: str, body: dict[str, object], status: int
) -> None:
    response = served.post(f"/api/metrics/evaluate{path}", body)
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]


def test_other_organizations_see_nothing(served: Api) -> None:
    answer = served.stranger.post("/api/metrics/evaluate", json={"model_name": "small"})
    assert answer.status_code == 404
