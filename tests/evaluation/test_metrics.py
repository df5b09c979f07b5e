"""Metrics of a confusion equal scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    jaccard_score,
    precision_recall_fscore_support,
)

from katiml.errors import TooLarge
from katiml.evaluation.metrics import (
    Confusion,
    averages,
    by_class,
    confusion_of,
    wilson_interval,
)

_labels = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), min_size=1, max_size=60
)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@settings(max_examples=100, deadline=None)
@given(_labels)
def test_metrics_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    confusion = confusion_of(truth, predicted)
    found = by_class(confusion)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=confusion.names, zero_division=0
    )
    np.testing.assert_allclose(found["precision"], precision)
    np.testing.assert_allclose(found["recall"], recall)
    np.testing.assert_allclose(found["f1"], f1)
    np.testing.assert_array_equal(found["support"], support)
    iou = jaccard_score(truth, predicted, labels=confusion.names, average=None, zero_division=0)
    np.testing.assert_allclose(found["iou"], iou)
    pooled = averages(confusion)
    for average in ("macro", "micro", "weighted"):
        expected = precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert pooled[f"{name}_{average}"] == pytest.approx(value)
    assert confusion.correct / confusion.total == pytest.approx(accuracy_score(truth, predicted))
    expected_matrix = confusion_matrix(truth, predicted, labels=confusion.names)
    assert confusion.matrix()[:-1, :-1].tolist() == expected_matrix.tolist()


def test_what_is_not_there_counts_as_missed_or_invented() -> None:
    confusion = confusion_of(["cat", "cat", None], ["cat", None, "cat"])
    found = by_class(confusion)
    assert (found["precision"][0], found["recall"][0], found["iou"][0]) == (0.5, 0.5, 1 / 3)
    assert confusion.matrix().tolist() == [[1, 1], [1, 0]]


def test_counts_are_added_up() -> None:
    confusion = confusion_of(["a", "a", "b"], ["a", "a", "a"], [5, 6, 7])
    assert confusion.total == 18
    assert confusion.correct == 11
    assert len(confusion.count) == 2


def test_nothing_at_all() -> None:
    confusion = confusion_of([], [])
    assert by_class(confusion)["f1"].tolist() == []
    assert set(averages(confusion).values()) == {0.0}


def test_a_matrix_of_too_many_classes_is_refused() -> None:
    empty = np.zeros(0, np.intp)
    confusion = Confusion([str(n) for n in range(6_000)], empty, empty, empty.astype(np.int64))
    with pytest.raises(TooLarge, match="6,000 classes"):
        confusion.matrix()


def test_the_interval_holds_the_share_and_narrows() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    # Of 1,000 draws with a share of 0.3 about 950 intervals hold it.
    draws = np.random.default_rng(0).binomial(50, 0.3, 1_000)
    inside = sum(low <= 0.3 <= high for low, high in (wilson_interval(n, 50) for n in draws))
    assert 930 <= inside <= 970
