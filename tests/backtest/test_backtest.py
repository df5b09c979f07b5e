"""Simulated labelling: paired, repeatable, and honest about its uncertainty."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import katiml
from katiml.backtest import MODELS, Backtest, backtest
from katiml.backtest.models import probabilities_of, task_model, train
from katiml.backtest.plots import chart
from katiml.backtest.statistics import area_under, first_reached, interval, student_t
from katiml.errors import InvalidInput
from katiml.miners import STRATEGIES, get_strategy

SMALL: dict[str, Any] = {"initial": 4, "batch": 4, "budget": 16, "seeds": 3}


def blobs(count: int = 150, seed: int = 0, classes: int = 3) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    codes = random.integers(0, classes, count)
    centres = random.normal(size=(classes, 5)) * 2
    return centres[codes] + random.normal(size=(count, 5)), np.array(["a", "b", "c"])[codes]


class Recording:
    """A task model that remembers what it was trained on."""

    seen: list[Any]

    def __init__(self) -> None:
        self.seen = _SEEN

    def __deepcopy__(self, memo: Any) -> Recording:
        return Recording()

    def fit(self, features: Any, labels: Any) -> None:
        self.seen.append(features)
        self._classes = np.unique(labels)

    def predict(self, features: Any) -> Any:
        return np.full(len(features), self._classes[0])

    def predict_proba(self, features: Any) -> Any:
        return np.full((len(features), len(self._classes)), 1 / len(self._classes))


_SEEN: list[Any] = []


def test_runs_are_paired_and_repeatable() -> None:
    vectors, labels = blobs()
    found = backtest(vectors, labels, ["RANDOM", "MARGIN", "CORESET"], **SMALL)
    assert found.counts.tolist() == [4, 8, 12, 16]
    # All begin with the same labels and test set.
    firsts = np.stack([values[:, 0] for values in found.scores.values()])
    assert (firsts == firsts[0]).all()
    again = backtest(vectors, labels, ["RANDOM", "MARGIN", "CORESET"], **SMALL, workers=3)
    for name in found.scores:
        np.testing.assert_array_equal(found.scores[name], again.scores[name])
    other = backtest(vectors, labels, ["RANDOM"], **{**SMALL, "seeds": [0, 1, 7]})
    np.testing.assert_array_equal(other.scores["RANDOM"][:2], found.scores["RANDOM"][:2])


def test_each_round_adds_a_batch_of_new_ones() -> None:
    _SEEN.clear()
    vectors, labels = blobs(60)
    backtest(vectors, labels, ["RANDOM"], model=Recording(), **{**SMALL, "seeds": 1},
             standardize=False)  # fmt: skip
    assert [len(rows) for rows in _SEEN] == [4, 8, 12, 16]
    for before, after in itertools.pairwise(_SEEN):
        np.testing.assert_array_equal(after[: len(before)], before)
        assert len(np.unique(after, axis=0)) == len(after)


def test_a_test_set_of_ones_own_is_never_chosen() -> None:
    _SEEN.clear()
    vectors, labels = blobs(40)
    test = (vectors[:10] + 100, labels[:10])
    found = backtest(vectors, labels, ["RANDOM"], model=Recording(), test=test, initial=4,
                     batch=20, budget=500, seeds=1, standardize=False)  # fmt: skip
    assert found.counts.tolist() == [4, 24, 40]
    assert max(rows.max() for rows in _SEEN) < 50


def test_the_first_labels_hold_two_classes() -> None:
    vectors, _ = blobs(60)
    labels = np.array(["common"] * 57 + ["rare"] * 3)
    found = backtest(vectors, labels, ["RANDOM"], initial=2, batch=2, budget=6, seeds=5)
    assert found.scores["RANDOM"].shape == (5, 3)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "MISLABELED"])
def test_every_strategy_that_chooses_unlabelled_datapoints_runs(name: str) -> None:
    vectors, labels = blobs(80)
    found = backtest(vectors, labels, ["RANDOM", name], **{**SMALL, "seeds": 2})
    assert len(found.scores) == 2
    for values in found.scores.values():
        assert ((values > 0) & (values <= 1)).all()


def test_strategies_with_settings_and_labels() -> None:
    vectors, labels = blobs()
    mixed = get_strategy("MIXED", stages=[{"strategy": "MARGIN"}, {"strategy": "CORESET"}])
    found = backtest(vectors, labels, ["RANDOM", mixed, "MIXED"], **SMALL)
    assert list(found.scores) == ["RANDOM", "MIXED", "MIXED 2"]
    named = backtest(vectors, labels, {"base": "RANDOM", "mine": mixed}, **SMALL)
    assert list(named.scores) == ["base", "mine"]
    assert named.baseline == "base"


@pytest.mark.parametrize("model", MODELS)
def test_every_task_model_learns(model: str) -> None:
    vectors, labels = blobs()
    found = backtest(vectors, labels, ["MARGIN"], model=model, initial=9, batch=20, budget=49,
                     seeds=2)  # fmt: skip
    assert found.scores["MARGIN"][:, -1].mean() > 0.7


def test_the_macro_average_of_f1() -> None:
    vectors, labels = blobs()
    accuracy = backtest(vectors, labels, ["RANDOM"], **SMALL).scores["RANDOM"]
    f1 = backtest(vectors, labels, ["RANDOM"], **SMALL, score="f1_macro").scores["RANDOM"]
    assert not np.allclose(accuracy, f1)
    assert ((f1 > 0) & (f1 <= 1)).all()


def test_probabilities_order_as_decisions_do() -> None:
    vectors, labels = blobs(90)
    codes = np.unique(labels, return_inverse=True)[1]
    for classes in (2, 3):
        chosen = codes < classes
        model = task_model("svm").fit(vectors[chosen], codes[chosen])
        found = probabilities_of(model, vectors[chosen])
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert (found.argmax(axis=1) == model.predict(vectors[chosen])).all()
        if classes == 2:
            values = model.decision_function(vectors[chosen])
            assert (np.argsort(found[:, 1]) == np.argsort(values)).all()


def test_classes_that_were_not_seen_have_no_probability() -> None:
    vectors, labels = blobs(90)
    codes = np.unique(labels, return_inverse=True)[1]
    some = codes != 1
    trained = train(task_model("logistic-regression"), vectors[some], codes[some], 3, 0)
    found = trained.probabilities(vectors)
    assert found.shape == (90, 3)
    assert (found[:, 1] == 0).all()


# -- statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 19, 29, 200])
def test_students_t(degrees: int) -> None:
    for share in (0.9, 0.975, 0.995):
        assert student_t(share, degrees) == pytest.approx(
            stats.t.ppf(share, degrees), rel=2e-3 if share < 0.99 else 1e-2
        )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=30))
def test_intervals_are_those_of_scipy(values: list[float]) -> None:
    array = np.array(values)
    mean, low, high = interval(array)
    if array.std() < 1e-9:
        assert low == pytest.approx(mean) == high
        return
    expected = stats.t.interval(0.95, len(array) - 1, loc=array.mean(), scale=stats.sem(array))
    assert (low, high) == pytest.approx(expected, rel=2e-3, abs=2e-3 * (high - low))


def test_one_seed_has_no_interval() -> None:
    vectors, labels = blobs()
    found = backtest(vectors, labels, **{**SMALL, "seeds": 1})
    assert found.curves["low"].isna().all()
    assert "1 seeds" in str(found) and "nan" not in str(found).lower()


def test_areas_and_levels() -> None:
    counts = np.array([10, 20, 40])
    curve = np.array([0.5, 0.6, 0.8])
    assert area_under(counts, curve) == pytest.approx((5.5 + 14.0) / 30)
    assert area_under(counts[:1], curve[:1]) == 0.5
    assert first_reached(counts, curve, 0.4) == 10
    assert first_reached(counts, curve, 0.7) == pytest.approx(30)
    assert math.isnan(first_reached(counts, curve, 0.9))


def _result(**scores: Any) -> Backtest:
    arrays = {name: np.array(values, float) for name, values in scores.items()}
    return Backtest(np.array([10, 20, 30]), arrays, [0, 1], "accuracy", dict.fromkeys(arrays, 0.1))


def test_gains_are_taken_seed_by_seed() -> None:
    found = _result(RANDOM=[[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]], OTHER=[[0.2, 0.3, 0.4]] * 2)
    areas = found.areas.set_index("strategy")
    assert areas.loc["OTHER", "gain"] == pytest.approx(-0.1)
    assert areas.loc["OTHER", "better"] == 0.5
    assert np.isnan(areas.loc["RANDOM", "gain"])
    assert areas.loc["OTHER", "low"] < areas.loc["OTHER", "gain"] < areas.loc["OTHER", "high"]


def test_labels_that_a_level_takes() -> None:
    found = _result(RANDOM=[[0.1, 0.2, 0.4]] * 2, FAST=[[0.1, 0.4, 0.5]] * 2, SLOW=[[0.1] * 3] * 2)
    reached = found.labels_to_reach().set_index("strategy")
    assert reached["level"].unique().tolist() == [pytest.approx(0.4)]
    assert reached.loc["FAST", "labels"] == pytest.approx(20)
    assert reached.loc["FAST", "saved"] == pytest.approx(1 / 3)
    assert np.isnan(reached.loc["SLOW", "labels"])
    assert found.labels_to_reach(0.2)["labels"].iloc[0] == pytest.approx(20)
    text = str(found)
    assert "FAST gets there with 20, 33% fewer" in text
    assert "SLOW does not get there" in text


def test_tables_and_plain_values() -> None:
    found = _result(RANDOM=[[0.1, 0.2, 0.4]] * 2)
    assert found.table([10, 30])["RANDOM"].tolist() == pytest.approx([0.1, 0.4])
    with pytest.raises(InvalidInput, match="no round had 15 labels"):
        found.table([15])
    plain = found.to_dict()
    assert plain["areas"][0]["gain"] is None
    assert plain["scores"]["RANDOM"][0] == [0.1, 0.2, 0.4]


# -- pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".png", ".svg", ".pdf"])
def test_pictures(tmp_path: Path, kind: str) -> None:
    path = _result(RANDOM=[[0.1, 0.2, 0.4]] * 2, MARGIN=[[0.1, 0.4, 0.5]] * 2).plot(
        tmp_path / f"curves{kind}"
    )
    data = path.read_bytes()
    assert data.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[kind])
    if kind == ".svg":
        assert b"MARGIN" in data or b"text" in data


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'curves\.gif' is no name of a picture"):
        _result(RANDOM=[[0.1, 0.2, 0.4]] * 2).plot(tmp_path / "curves.gif")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 30), st.integers(1, 9))
def test_charts_have_their_size(values: list[float], width: int, height: int) -> None:
    counts = np.arange(1, len(values) + 1)
    lines = chart(counts, {"A": np.array(values)}, width, height).plain.splitlines()
    assert len(lines) == height + 3
    assert max(len(line) for line in lines[:height]) <= 7 + width
    assert any(0x2800 < ord(char) < 0x2900 for line in lines[:height] for char in line)


# -- what cannot be simulated ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategies": []}, "no strategy is named"),
        ({"strategies": ["MARGNI"]}, "no strategy is called 'MARGNI'"),
        ({"strategies": ["MISLABELED"]}, "MISLABELED cannot be simulated: it needs"),
        ({"model": "magic"}, "no task model is called 'magic'"),
        ({"model": 3}, "a task model is int"),
        ({"score": "luck"}, "score is 'luck'"),
        ({"initial": 1}, "initial is 1"),
        ({"initial": 200, "budget": 300}, "200 initial labels of a pool of 90"),
        ({"batch": 0}, "batch is 0"),
        ({"budget": 2}, "budget is 2"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]"),
        ({"seeds": "many"}, "seeds is 'many'"),
        ({"test_share": 1.0}, "test_share is 1.0"),
        ({"test_share": "half"}, "test_share is 'half'"),
        ({"workers": 0}, "workers is 0"),
        ({"labels": ["a"] * 150}, "all labels are alike"),
        ({"labels": ["a", "b"]}, "2 labels for 150 embeddings"),
        ({"embeddings": np.full((150, 2), np.nan)}, "NaN or infinity"),
        ({"embeddings": np.zeros(150)}, "embeddings of shape"),
        ({"test": (np.zeros((3, 2)), ["a"] * 3)}, "test embeddings of shape"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], problem: str) -> None:
    vectors, labels = blobs()
    with pytest.raises(InvalidInput, match=problem):
        backtest(**{"embeddings": vectors, "labels": labels, **SMALL, **options})


class Stubborn(Recording):
    def __deepcopy__(self, memo: Any) -> Stubborn:
        return Stubborn()

    def fit(self, features: Any, labels: Any) -> None:
        raise ValueError("I want 1,000 labels")


def test_a_model_that_fails_says_with_how_many_labels() -> None:
    vectors, labels = blobs()
    with pytest.raises(InvalidInput, match="could not be fitted to 4 labels: ValueError: I want"):
        backtest(vectors, labels, model=Stubborn(), **SMALL)


# -- from a lake -----------------------------------------------------------------------------


def _ingest(lake: katiml.Lake) -> None:
    vectors, labels = blobs(90)
    records: list[dict[str, Any]] = [
        {
            "type": "IMAGE",
            "tags": {"split": "test" if number < 30 else "train"},
            "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": label}],
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": "net",
                    "embeddings": {"pool": vector.tolist()},
                }
            ],
        }
        for number, (vector, label) in enumerate(zip(vectors, labels, strict=True))
    ]
    del records[3]["groundtruths"]
    del records[4]["predictions"]
    lake.ingest(records)


TEST = [
    {"left": "tags.name", "op": "=", "right": "split"},
    {"left": "tags.value", "op": "=", "right": "test"},
]


def test_labelled_datapoints_of_a_lake(lake: katiml.Lake) -> None:
    _ingest(lake)
    shares: list[float] = []
    found = lake.backtest(["RANDOM", "MARGIN"], **SMALL, on_progress=shares.append)
    assert found.about["datapoints"] == 88
    assert shares == sorted(shares) and shares[-1] == 1.0
    split = lake.backtest(["RANDOM"], model_name="net:pool", test_filters=TEST, **SMALL)
    assert split.about["datapoints"] == 60
    trained = lake.backtest(["RANDOM"], filters=[{"not": TEST}], **SMALL)
    assert trained.about["datapoints"] == 60


def test_what_the_lake_does_not_have(tmp_path: Path) -> None:
    with katiml.connect(tmp_path) as lake:
        _ingest(lake)
        with pytest.raises(InvalidInput, match="no embeddings are called 'net:top'"):
            lake.backtest(model_name="net:top", **SMALL)
        lake.groundtruths.delete(all=True)
        with pytest.raises(InvalidInput, match="no ground truths of CLASSIFICATION"):
            lake.backtest(**SMALL)
