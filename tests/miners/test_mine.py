"""Strategies on a lake: what is asked, what comes back, and what is said when it cannot be done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from katiml.errors import InvalidFilter, InvalidInput, MissingExtra
from katiml.miners import STRATEGIES, Inputs, get_strategy, scores
from katiml.miners.estimate import estimate
from katiml.miners.mine import Mined, Request, mine
from katiml.records.derived import softmax
from katiml.vectors import Select

CLASSES = ["cat", "dog", "fox"]
ROWS = 40
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.standard_normal((ROWS, 3)) * 2
PASSES = LOGITS[:, None] + RANDOM.standard_normal((ROWS, 4, 3))
# Whole numbers, which float16 keeps.
EMBEDDINGS = RANDOM.integers(-9, 10, (ROWS, 5)).astype(float)
LABELS = np.where(np.arange(ROWS) % 9 == 0, (LOGITS.argmax(1) + 1) % 3, LOGITS.argmax(1))


def tagged(value: str) -> Select:
    return Select({"exists": "tags", "where": {"left": "value", "op": "=", "right": value}})


POOL, TRAIN = tagged("pool"), tagged("train")


def records() -> list[dict[str, Any]]:
    return [
        {
            "type": "IMAGE",
            "metadata": {"number": number},
            "tags": {"split": "train" if number < 10 else "pool"},
            "groundtruths": [
                {"task_type": "CLASSIFICATION", "class_name": CLASSES[LABELS[number]]}
            ],
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": name,
                    "class_names": CLASSES,
                    "logits": logits[number],
                    "embeddings": {"last": EMBEDDINGS[number]},
                }
                for name, logits in (("net", LOGITS), ("dropout", PASSES))
            ],
        }
        for number in range(ROWS)
    ]


def numbers(lake: Any, mined: Mined) -> list[int]:
    """Which records were picked."""
    found = lake.datapoints.select(fields=["id", "metadata.number"])
    place = dict(zip(found["id"], found["metadata.number"], strict=True))
    return [int(place[str(name, "ascii")]) for name in mined.ids]


def request(strategy: str, **changes: Any) -> Request:
    told: dict[str, Any] = {"size": 6, "select": POOL, "model_name": "net", "reference": TRAIN}
    if strategy in ("VARIANCE", "BALD"):
        told["model_name"] = "dropout"
    if strategy == "QUERY_BY_COMMITTEE":
        told["model_name"] = ["net", "dropout"]
    return Request(strategy, **{**told, **changes})


def arrays() -> Inputs:
    """The same pool as arrays: records 10 to 39; their ids are in the order of their making."""
    probabilities, passes = softmax(LOGITS), softmax(PASSES)
    return Inputs(
        ids=[f"{number:02d}" for number in range(10, ROWS)],
        probabilities=probabilities[10:].astype(np.float32),
        passes=passes[10:],
        committee=np.stack([probabilities, passes.mean(axis=1)])[:, 10:].astype(np.float32),
        class_names=CLASSES,
        vectors=EMBEDDINGS[10:].astype(np.float32),
        reference=EMBEDDINGS[:10].astype(np.float32),
        reference_ids=[f"{number:02d}" for number in range(10)],
        labels=LABELS[10:],
    )


def test_a_lake_picks_what_arrays_do(lake: Any) -> None:
    """Every strategy: ids, scores, estimates; and the same again when it is repeated."""
    lake.ingest(records())
    for name in STRATEGIES:
        asked = request(name, seed=4)
        mined = mine(lake.scope, asked)
        expected = get_strategy(name).pick(arrays(), 6, seed=4)
        assert numbers(lake, mined) == (expected.positions + 10).tolist(), name
        np.testing.assert_allclose(mined.scores, expected.scores, rtol=1e-5, err_msg=name)
        assert all(len(column) == 6 for column in mined.reasons.values())
        if name in ("ENTROPY", "BADGE", "TYPICLUST", "MIXED"):
            again = mine(lake.scope, asked)
            assert again.ids.tolist() == mined.ids.tolist()
            assert again.provenance == mined.provenance
        told = mined.provenance
        assert told["strategy"] == name and told["size"] == 6 and told["seed"] == 4
        assert told["select"] == {"filters": POOL.filters} and told["version"]
        assert told.get("state") or all(stage["state"] for stage in told["stages"])
        found = estimate(lake.scope, asked)
        assert (found.datapoints, found.usable, dict(found.missing)) == (30, 30, {}), name
        assert found.reference in (None, 10)


def test_names_select_what_is_meant(lake: Any) -> None:
    lake.ingest(records())
    by_layer = mine(lake.scope, request("CORESET", model_name="net:last"))
    by_model = mine(lake.scope, request("CORESET"))
    assert by_layer.ids.tolist() == by_model.ids.tolist()
    assert by_layer.provenance["model_name"] == by_model.provenance["model_name"] == "net:last"
    uncertain = mine(lake.scope, request("ENTROPY", model_name="net:last"))
    assert uncertain.provenance["model_name"] == "net"
    logits = mine(lake.scope, request("ACTIVATION", embeddings_field="logits", reference=None))
    expected = np.abs(LOGITS[10:].astype(np.float16)).mean(axis=1).argsort(kind="stable")[:6]
    assert numbers(lake, logits) == (expected + 10).tolist()
    # The reference is not picked again, even where the selection holds it.
    everything = mine(lake.scope, request("CORESET", select=Select(), size=99))
    assert sorted(numbers(lake, everything)) == list(range(10, ROWS))
    limited = Select(order_by="metadata.number", desc=True, limit=4)
    assert sorted(numbers(lake, mine(lake.scope, request("RANDOM", select=limited)))) == [
        36, 37, 38, 39,
    ]  # fmt: skip


def test_a_pipeline_says_what_each_stage_said(lake: Any) -> None:
    lake.ingest(records())
    stages = [
        {"strategy": "MARGIN", "factor": 2},
        {"strategy": "DENSITY", "factor": 1.5, "settings": {"radius": 0.2}},
        {"strategy": "CORESET"},
    ]
    asked = request("MIXED", settings={"stages": stages}, reference=None, seed=3)
    mined = mine(lake.scope, asked)
    expected = get_strategy("MIXED", stages=stages).pick(
        replace(arrays(), reference=None, reference_ids=None), 6, seed=3
    )
    assert numbers(lake, mined) == (expected.positions + 10).tolist()
    assert [stage["kept"] for stage in mined.provenance["stages"]] == [12, 9, 6]
    margins = scores.margin(softmax(LOGITS))[numbers(lake, mined)]
    np.testing.assert_allclose(mined.reasons["margin_score"], margins, rtol=1e-6)
    assert set(mined.reasons["margin_rank"]) <= set(range(12))
    assert set(mined.reasons) == {
        "margin_score", "margin_rank", "density_score", "density_rank", "nearest",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"strategy": "ENTROPY"}], "1 stages"),
        ([{"strategy": "RANDOM"}] * 6, "6 stages"),
        ([{"strategy": "ENTROPY"}, {"strategy": "MIXED"}], "MIXED itself"),
        ([{"strategy": "ENTROPY"}, {"strategy": "NONE"}], "no strategy"),
        ([{"strategy": "ENTROPY", "factor": 0.5}, "RANDOM"], "factor"),
        ([{"strategy": "ENTROPY", "colour": 1}, "RANDOM"], "a stage of MIXED"),
        ([{"strategy": "ENTROPY", "settings": [1]}, "RANDOM"], "settings"),
        ([{"strategy": "ENTROPY", "settings": {"x": 1}}, "RANDOM"], "no parameter"),
        ([3, 4], "a stage of MIXED"),
    ],
)
def test_pipelines_that_are_none(stages: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        get_strategy("MIXED", stages=stages)


# -- boxes, lanes, completions ---------------------------------------------------------------


def detection(number: int, confidences: list[list[float]]) -> dict[str, Any]:
    boxes = [
        {"top": 0, "left": 0, "height": 1, "width": 1, "class_names": CLASSES,
         "confidences": own, "confidence": max(own)}
        for own in confidences
    ]  # fmt: skip
    said = {"task_type": "OBJECT_DETECTION", "model_name": "boxes", "bboxes": boxes}
    return {"type": "IMAGE", "metadata": {"number": number}, "predictions": [said]}


BOXES = [
    [[0.4, 0.3, 0.3]],
    [[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.9, 0.05, 0.05]],
    [[1.0, 0.0, 0.0]],
    [],
]


def test_scores_of_boxes_add_up(lake: Any) -> None:
    lake.ingest([detection(number, boxes) for number, boxes in enumerate(BOXES)])
    for aggregate in scores.AGGREGATES:
        _check_boxes(lake, aggregate)


def _check_boxes(lake: Any, aggregate: str) -> None:
    owners = [number for number, boxes in enumerate(BOXES) for _ in boxes]
    own = np.array([box for boxes in BOXES for box in boxes])
    for name, score in (
        ("ENTROPY", scores.entropy(own, normalized=True)),
        ("MARGIN", scores.margin(own)),
        ("CONFIDENCE", scores.least_confidence(own)),
    ):
        expected = scores.aggregate(score, owners, 4, aggregate)
        asked = Request(name, 9, model_name="boxes", settings={"aggregate": aggregate})
        mined = mine(lake.scope, asked)
        # An image without boxes has no score, so it is not among them.
        assert numbers(lake, mined) == np.argsort(-expected[:3], kind="stable").tolist()
        np.testing.assert_allclose(mined.scores, np.sort(expected[:3])[::-1], atol=1e-9)
        items = dict(zip(numbers(lake, mined), mined.reasons["items"], strict=True))
        assert items == {0: 1, 1: 3, 2: 1}
        found = estimate(lake.scope, asked)
        assert (found.usable, list(found.missing.values())) == (3, [1])


def test_lanes_and_completions(lake: Any) -> None:
    lane = {
        "coco_polyline": [0, 0, 1, 1],
        "confidence": 0.75,
        "classifications": [
            {"name": "colour", "class_names": ["a", "b"], "confidences": [0.5, 0.5]},
            {"name": "kind", "class_names": ["a", "b"], "confidences": [1.0, 0.0]},
        ],
    }
    lake.ingest([
        {"type": "IMAGE", "metadata": {"number": number}, "predictions": [
            {"task_type": "LANE_DETECTION", "model_name": "lanes", "lanes": [lane] * count}]}
        for number, count in enumerate((2, 1))
    ] + [
        {"type": "TEXT", "text": "?", "metadata": {"number": 2 + number}, "predictions": [
            {"task_type": "COMPLETION", "model_name": "words",
             "completions": [{"text": "a", "metrics": {"entropy": value}, "confidence": 0.5}
                             for value in values]}]}
        for number, values in enumerate(([0.2, 0.3], [0.4]))
    ])  # fmt: skip
    lanes = mine(lake.scope, Request("ENTROPY", 5, model_name="lanes"))
    assert numbers(lake, lanes) == [0, 1]
    np.testing.assert_allclose(lanes.scores, [2.0, 1.0], atol=1e-6)
    sure = mine(lake.scope, Request("CONFIDENCE", 5, model_name="lanes"))
    np.testing.assert_allclose(sure.scores, [0.5, 0.25])
    words = mine(lake.scope, Request("ENTROPY", 5, model_name="words"))
    assert numbers(lake, words) == [2, 3]
    longest = Request("ENTROPY", 5, model_name="words", settings={"aggregate": "max"})
    assert numbers(lake, mine(lake.scope, longest)) == [3, 2]
    # A strategy that makes no sense for a task says so.
    for model in ("lanes", "words"):
        with pytest.raises(InvalidInput, match=r"MARGIN: no prediction of .* has a value"):
            mine(lake.scope, Request("MARGIN", 5, model_name=model))
        with pytest.raises(InvalidInput, match="no classifications with confidences"):
            mine(lake.scope, Request("MISLABELED", 5, model_name=model))


def test_metrics_that_were_sent_win(lake: Any) -> None:
    """As the notebook of the original does it with weighted_entropy."""
    lake.ingest([
        {"type": "IMAGE", "metadata": {"number": number}, "predictions": [
            {"task_type": "OBJECT_DETECTION", "model_name": "m",
             "metrics": {"weighted_entropy": value, "entropy": -value}}]}
        for number, value in enumerate((0.5, 2.0, 1.0))
    ])  # fmt: skip
    assert numbers(lake, mine(lake.scope, Request("WEIGHTED_ENTROPY", 2))) == [1, 2]
    assert numbers(lake, mine(lake.scope, Request("ENTROPY", 2))) == [0, 2]


def test_ties_come_in_the_order_of_ids(lake: Any) -> None:
    lake.ingest([
        {"type": "IMAGE", "predictions": [{"task_type": "CLASSIFICATION", "model_name": "m",
                                           "confidences": [0.5, 0.5]}]}
        for _ in range(30)
    ])  # fmt: skip
    names = sorted(lake.datapoints.select(fields=["id"]).id)
    for strategy in ("ENTROPY", "MARGIN", "CONFIDENCE"):
        mined = mine(lake.scope, Request(strategy, 7))
        assert [str(name, "ascii") for name in mined.ids] == names[:7]


# -- what cannot be done ---------------------------------------------------------------------


def test_bad_requests_say_what_there_is(lake: Any) -> None:
    lake.ingest(records()[:12])
    nothing = tagged("nothing")
    for asked, said in (
        (request("RANDOM", size=0), "size is 0"),
        (request("RANDOM", select=nothing), "the pool is empty"),
        (request("CORESET", model_name="nets"), "no embeddings are called 'nets'"),
        (request("CORESET", model_name=None), "model_name is missing.*'dropout:last', 'net:last'"),
        (request("CORESET", model_name=["net"]), "one model, not a list"),
        (request("CORESET", embeddings_field="pixels"), "embeddings_field"),
        (request("CORESET", select=nothing), "no embeddings"),
        (request("CORESET", settings={"metric": "manhattan"}), "metric"),
        (request("ENTROPY", model_name="nets"), "no predictions of 'nets'.*'dropout', 'net'"),
        (request("ENTROPY", model_name=None), "model_name is missing"),
        (request("ENTROPY", model_name=7), "not a text"),
        (request("VARIANCE", model_name="net"), "VARIANCE: no prediction .* variance.*entropy"),
        (request("BADGE", model_name="nets"), "BADGE: .*grad_embeddings.*embeddings"),
        (request("QUERY_BY_COMMITTEE", model_name="net"), "two models or more"),
        (request("QUERY_BY_COMMITTEE", model_name=["net", "net"]), "two models or more"),
        (request("NEAREST_NEIGHBORS", reference=None), "none is given"),
        (request("NEAREST_NEIGHBORS", reference=nothing), "reference.*empty"),
        (request("CORESET", select=TRAIN), "no embeddings"),
        (request("CORSET"), "did you mean CORESET"),
        (request("RANDOM", device="tpu"), "device is 'tpu'"),
    ):
        with pytest.raises(InvalidInput, match=said):
            mine(lake.scope, asked)
    with pytest.raises(InvalidFilter):
        mine(lake.scope, request("RANDOM", select=Select({"left": "x", "op": "=", "right": 1})))
    with pytest.raises((InvalidInput, MissingExtra), match="cuda"):
        mine(lake.scope, request("CORESET", device="cuda:99"))
    # Also where there need not be one: filters with a slip of the pen are more likely.
    with pytest.raises(InvalidInput, match="reference, which is empty"):
        mine(lake.scope, request("CORESET", reference=nothing))


def test_classes_in_another_order_are_brought_together(lake: Any) -> None:
    said = [(["a", "b"], [0.9, 0.1]), (["b", "a"], [0.8, 0.2]), (["c"], [1.0]), (None, [0.3, 0.7])]
    lake.ingest([
        {"type": "IMAGE", "metadata": {"number": number},
         "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "a"}],
         "predictions": [{"task_type": "CLASSIFICATION", "model_name": "m",
                          "class_names": names, "confidences": values}]}
        for number, (names, values) in enumerate(said)
    ])  # fmt: skip
    mined = mine(lake.scope, Request("MISLABELED", 9))
    doubts = dict(zip(numbers(lake, mined), mined.scores, strict=True))
    assert doubts == pytest.approx({0: 0.1, 1: 0.8, 2: 1.0, 3: 1.0})
    suggested = dict(zip(numbers(lake, mined), mined.reasons["suggested"], strict=True))
    assert suggested == {0: "a", 1: "b", 2: "c", 3: "1"}


def test_only_what_has_all_is_mined(lake: Any) -> None:
    some = records()[:9]
    del some[0]["predictions"][0]["embeddings"]
    del some[1]["predictions"][0]["logits"]
    del some[2]["groundtruths"]
    some[3]["predictions"] = some[3]["predictions"][:1]
    lake.ingest(some)
    everything = Select()

    def found(name: str, **changes: Any) -> list[int]:
        asked = request(name, select=everything, reference=None, size=99, **changes)
        assert estimate(lake.scope, asked).datapoints == 9
        return sorted(numbers(lake, mine(lake.scope, asked)))

    assert found("CORESET") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found("ENTROPY") == [0, 2, 3, 4, 5, 6, 7, 8]
    assert found("BADGE") == [2, 3, 4, 5, 6, 7, 8]
    assert found("MISLABELED") == [0, 3, 4, 5, 6, 7, 8]
    assert found("QUERY_BY_COMMITTEE") == [0, 2, 4, 5, 6, 7, 8]
    asked = request("CORESET", select=everything, reference=None)
    assert mine(lake.scope, asked).provenance["missing"] == {
        "a prediction without embeddings called 'net:last'": 1
    }
    assert sum(estimate(lake.scope, asked).missing.values()) == 1


def test_another_organization_sees_and_mines_nothing(lake: Any) -> None:
    lake.ingest(records()[:5])
    other = lake.for_organization("other")
    for name in STRATEGIES:
        with pytest.raises(InvalidInput):
            mine(other.scope, request(name, select=Select()))
