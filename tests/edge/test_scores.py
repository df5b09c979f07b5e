"""A device gives a record the score that the lake's miner of the same name gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import katiml
from katiml.edge import Miner
from katiml.errors import InvalidInput, InvalidRecord
from katiml.miners import Inputs, get_strategy
from katiml.miners.mine import Request, mine
from katiml.vectors import Select, load_vectors

Record = dict[str, Any]
METRICS = ("ENTROPY", "MARGIN", "CONFIDENCE", "VARIANCE", "BALD")


def _box(random: np.random.Generator) -> Record:
    return {
        "top": 1,
        "left": 1,
        "height": 5,
        "width": 5,
        "class_names": ["a", "b", "c"],
        "confidences": random.dirichlet(np.ones(3)).tolist(),
    }


def _predictions(random: np.random.Generator) -> Iterator[Record]:
    """Predictions of every kind a device may have."""
    names = {"class_names": ["a", "b", "c"]}
    kind = {"task_type": "CLASSIFICATION", **names}
    for _ in range(4):
        yield {**kind, "logits": (10 * random.normal(size=3)).astype(np.float32)}
        yield {**kind, "logits": (3 * random.normal(size=3)).tolist()}
        yield {**kind, "logits": random.normal(size=(5, 3))}
        yield {**kind, "confidences": random.dirichlet(np.ones(3)).tolist()}
    yield {"task_type": "CLASSIFICATION", "class_names": ["yes", "no"], "logits": [0.3]}
    yield {"task_type": "CLASSIFICATION", "class_name": "a", "confidence": 0.7}
    yield {**kind, "logits": [1.0, 2.0, 3.0], "metrics": {"entropy": 0.123, "bald": 0.5}}
    yield {"task_type": "SEGMENTATION", **names, "logits": random.normal(size=(3, 4, 5))}
    yield {"task_type": "SEGMENTATION", **names, "logits": random.normal(size=(2, 3, 4, 5))}
    boxed = {"task_type": "OBJECT_DETECTION"}
    yield {**boxed, "bboxes": [_box(random) for _ in range(3)]}
    yield {**boxed, "bboxes": [{**_box(random), "metrics": {"entropy": 0.4}}, _box(random)]}
    yield {
        "task_type": "LANE_DETECTION",
        "lanes": [
            {
                "coco_polyline": [0, 0, 5, 5],
                "confidence": 0.4,
                "classifications": [
                    {"name": "colour", "class_names": ["a", "b"], "confidences": [0.2, 0.8]},
                    {"name": "type", "class_names": ["a", "b"], "confidences": [0.5, 0.5]},
                ],
            }
        ],
    }
    yield {
        "task_type": "COMPLETION",
        "completions": [{"text": "a", "confidence": 0.2, "metrics": {"entropy": 0.7}}],
    }


@pytest.fixture(scope="module")
def records() -> list[Record]:
    random = np.random.default_rng(0)
    found = []
    for number, prediction in enumerate(_predictions(random)):
        embeddings = {"pool": random.normal(size=8) * 3, "maps": random.normal(size=(4, 40, 40))}
        if number == 3:
            embeddings["pool"][:] = 0
        found.append(
            {
                "type": "IMAGE",
                "request_id": str(number),
                "tags": {"half": str(number % 2)},
                "predictions": [{**prediction, "model_name": "net", "embeddings": embeddings}],
            }
        )
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Iterator[katiml.Lake]:
    with katiml.connect(tmp_path_factory.mktemp("lake")) as lake:
        counts = lake.ingest(records).counts
        assert counts["rejected"] == 0
        yield lake


def _by_request(lake: katiml.Lake, ids: Any, scores: Any) -> dict[str, float]:
    rows = lake.datapoints.select(fields=["id", "request_id"])
    names = dict(zip(rows["id"], rows["request_id"], strict=True))
    return {names[str(one, "ascii")]: float(score) for one, score in zip(ids, scores, strict=True)}


@pytest.mark.parametrize("aggregate", ["sum", "max"])
@pytest.mark.parametrize("strategy", METRICS)
def test_numbers_of_predictions(
    lake: katiml.Lake, records: list[Record], strategy: str, aggregate: str
) -> None:
    settings = {"aggregate": aggregate}
    mined = mine(lake.scope, Request(strategy, 1_000, model_name="net", settings=settings))
    expected = _by_request(lake, mined.ids, mined.scores)
    miner = Miner(strategy, threshold=0.0, model_name="net", aggregate=aggregate)
    found = {}
    for record in records:
        try:
            found[record["request_id"]] = miner.score(record)
        except InvalidRecord as error:
            assert "follows from this prediction" in error.message
    assert found == pytest.approx(expected, abs=1e-9)
    assert len(found) >= 4


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("strategy", ["EMBEDDING_DISTANCE", "NEAREST_NEIGHBORS", "NOVELTY"])
def test_embeddings_beside_a_reference(
    lake: katiml.Lake, records: list[Record], strategy: str, metric: str
) -> None:
    half = Select([{"left": "tags.value", "op": "=", "right": "0"}])
    reference = load_vectors(lake.scope, half, model_name="net:pool")
    pool = load_vectors(lake.scope, model_name="net:pool")
    settings = {"neighbors": 3} if strategy == "NOVELTY" else {}
    picks = get_strategy(strategy, metric=metric, **settings).pick(
        Inputs(ids=pool.ids, vectors=pool.matrix, reference=reference.matrix), len(pool)
    )
    expected = _by_request(lake, pool.ids[picks.positions], picks.scores)
    miner = Miner(
        strategy,
        threshold=0.0,
        model_name="net:pool",
        reference=reference.matrix,
        metric=metric,
        neighbors=3,
    )
    found = {record["request_id"]: miner.score(record) for record in records}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("field", ["embeddings", "logits"])
@pytest.mark.parametrize("referenced", [False, True])
def test_activation(lake: katiml.Lake, records: list[Record], referenced: bool, field: str) -> None:
    name = "net:pool" if field == "embeddings" else "net"
    three = Select(
        [{"left": "request_id", "op": "in", "right": [r["request_id"] for r in records[:12]]}]
    )
    vectors = load_vectors(lake.scope, three, model_name=name, field=field)
    reference = vectors.matrix[:4] if referenced else None
    picks = get_strategy("ACTIVATION").pick(
        Inputs(ids=vectors.ids, vectors=vectors.matrix, reference=reference), len(vectors)
    )
    expected = _by_request(lake, vectors.ids[picks.positions], picks.scores)
    miner = Miner(
        "ACTIVATION", threshold=1.0, model_name=name, embeddings_field=field, reference=reference
    )
    found = {
        record["request_id"]: miner.score(record)
        for record in records[:12]
        if record["request_id"] in expected
    }
    assert len(found) >= 9
    assert found == pytest.approx(expected, rel=1e-9)


def test_large_feature_maps_are_pooled_as_in_the_lake(
    lake: katiml.Lake, records: list[Record]
) -> None:
    stored = load_vectors(lake.scope, model_name="net:maps")
    assert stored.matrix.shape[1] < 4 * 40 * 40
    miner = Miner("ACTIVATION", threshold=1.0, model_name="net:maps")
    expected = _by_request(lake, stored.ids, np.abs(stored.matrix.astype(float)).mean(axis=1))
    found = {record["request_id"]: miner.score(record) for record in records}
    assert found == pytest.approx(expected, rel=1e-9)


def test_coreset_covers_what_the_lake_would_cover(lake: katiml.Lake, records: list[Record]) -> None:
    miner = Miner("CORESET", size=4, model_name="net:pool")
    for record in records:
        miner.offer(record)
    matrix = load_vectors(lake.scope, model_name="net:pool").matrix.astype(float)
    picks = get_strategy("CORESET").pick(Inputs(vectors=matrix), 4)

    def radius(centres: Any) -> float:
        away = np.sqrt(((matrix[:, None] - centres[None]) ** 2).sum(-1))
        return float(away.min(axis=1).max())

    kept = np.array([r["predictions"][0]["embeddings"]["pool"] for r in miner.records()])
    # Greedy is at most twice the best, the stream at most eight times.
    assert radius(kept) <= 8 * radius(matrix[picks.positions])


# -- what cannot be judged -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({}, "the record has no predictions"),
        ({"predictions": "cat"}, "the record has no predictions"),
        ({"predictions": [{"model_name": "other"}]}, "no prediction of the model 'net'"),
        ({"predictions": [{"model_name": "net"}]}, "no entropy follows"),
        ({"predictions": [{"model_name": "net", "logits": [np.nan, 1]}]}, "NaN or infinity"),
        ({"predictions": [{"model_name": "net", "logits": []}]}, "is empty"),
        ({"predictions": [{"model_name": "net", "logits": ["a"]}]}, "an array of"),
        ({"predictions": [{"model_name": "net", "logits": np.zeros((1,) * 5)}]}, "5 dimensions"),
        ({"predictions": [{"model_name": "net", "metrics": {"entropy": np.nan}}]}, "is nan"),
    ],
)
def test_what_cannot_be_judged_is_said_and_changes_nothing(
    tmp_path: Path, record: Record, problem: str
) -> None:
    miner = Miner("ENTROPY", size=2, model_name="net")
    with pytest.raises(InvalidRecord, match=problem):
        miner.offer(record)
    assert (miner.seen, miner.kept, len(miner)) == (0, 0, 0)


def test_embeddings_that_are_not_there() -> None:
    miner = Miner("CORESET", size=2, model_name="net:pool")
    with pytest.raises(InvalidRecord, match="no embeddings of a layer 'pool'") as raised:
        miner.offer({"predictions": [{"model_name": "net", "embeddings": {"top": [1.0]}}]})
    assert "'top'" in (raised.value.hint or "")
    with pytest.raises(InvalidRecord, match="the prediction has no embeddings"):
        miner.offer({"predictions": [{"model_name": "net"}]})
    several = {"predictions": [{"model_name": "net"}, {"model_name": "old"}]}
    with pytest.raises(InvalidRecord, match="not one prediction"):
        Miner("ENTROPY", size=2).offer(several)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"strategy": "BADGE", "size": 3}, "no strategy 'BADGE' on a device"),
        ({"strategy": "ENTROPY"}, "nothing says what to keep"),
        ({"strategy": "ENTROPY", "size": 0}, "size is 0"),
        ({"strategy": "ENTROPY", "size": True}, "size is True"),
        ({"strategy": "ENTROPY", "threshold": np.inf}, "threshold is inf"),
        ({"strategy": "CORESET", "threshold": 0.5}, "CORESET keeps a number of centres"),
        ({"strategy": "NOVELTY", "size": 3}, "NOVELTY needs a reference"),
        ({"strategy": "NOVELTY", "size": 3, "reference": [[1.0]]}, "a reference of 1"),
        ({"strategy": "CORESET", "size": 3, "reference": [1.0]}, "a reference of shape"),
        ({"strategy": "CORESET", "size": 3, "reference": [[np.nan]]}, "a reference of shape"),
        ({"strategy": "CORESET", "size": 3, "metric": "taxi"}, "metric is 'taxi'"),
        ({"strategy": "ENTROPY", "size": 3, "aggregate": "median"}, "aggregate is 'median'"),
        ({"strategy": "ENTROPY", "size": 3, "seed": -1}, "seed is -1"),
        ({"strategy": "ENTROPY", "size": 3, "neighbors": 0}, "neighbors is 0"),
    ],
)
def test_settings_that_do_not_belong_together(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        Miner(**settings)


def test_a_reference_of_another_layer_is_said() -> None:
    miner = Miner("NOVELTY", size=3, reference=np.eye(3))
    with pytest.raises(InvalidInput, match="an embedding of 2 values beside a reference of 3"):
        miner.offer({"predictions": [{"embeddings": [1.0, 2.0]}]})
