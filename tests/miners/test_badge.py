"""BADGE: never written out, and yet what the written-out gradients would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from katiml.miners import Inputs, get_strategy
from katiml.miners.badge import Gradients
from katiml.vectors.seeding import Plain, k_means_plus_plus


def factors(rows: int = 60, classes: int = 5, width: int = 7) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.dirichlet(np.ones(classes), rows), random.standard_normal((rows, width))


def written_out(probabilities: Any, vectors: Any) -> Any:
    residuals = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    return (residuals[:, :, None] * vectors[:, None, :]).reshape(len(vectors), -1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distances_are_those_of_the_gradients(dtype: Any) -> None:
    probabilities, vectors = factors()
    vectors = vectors.astype(dtype)
    gradients = written_out(probabilities, vectors.astype(np.float64))
    ours = Gradients(probabilities, vectors)
    np.testing.assert_allclose(ours.squares, (gradients**2).sum(axis=1), rtol=1e-5)
    for row in (0, 17, 59):
        expected = ((gradients - gradients[row]) ** 2).sum(axis=1)
        np.testing.assert_allclose(ours.squared_distances(row), expected, atol=1e-5)


def test_factors_and_stored_gradients_pick_the_same() -> None:
    probabilities, vectors = factors()
    stored = Inputs(gradients=written_out(probabilities, vectors))
    made = Inputs(probabilities=probabilities, vectors=vectors)
    picks = [get_strategy("BADGE").pick(inputs, 30, seed=5) for inputs in (stored, made)]
    assert picks[0].positions.tolist() == picks[1].positions.tolist()
    np.testing.assert_allclose(picks[0].scores, picks[1].scores, rtol=1e-6)


def test_the_first_is_the_largest_gradient_whatever_the_seed() -> None:
    probabilities, vectors = factors()
    largest = int((written_out(probabilities, vectors) ** 2).sum(axis=1).argmax())
    inputs = Inputs(probabilities=probabilities, vectors=vectors)
    picks = [get_strategy("BADGE").pick(inputs, 3, seed=seed) for seed in range(20)]
    assert {pick.positions[0] for pick in picks} == {largest}
    assert len({tuple(pick.positions) for pick in picks}) > 5


def test_chances_are_scikit_activemls() -> None:
    """Its utilities are the chances with which each next row is drawn.

    It measures from the origin too, as if that were a first centre, which the paper does not.
    """
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import Badge
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(1)
    vectors = random.standard_normal((40, 6))
    y = np.full(40, np.nan)
    y[:9] = np.arange(9) % 3
    model = SklearnClassifier(LogisticRegression(), classes=[0, 1, 2], random_state=0).fit(
        vectors, y
    )
    chosen, chances = Badge(random_state=0).query(
        vectors, y, model, fit_clf=False, batch_size=8, return_utilities=True
    )
    gradients = Gradients(model.predict_proba(vectors[9:]), vectors[9:])
    assert chosen[0] - 9 == int(gradients.squares.argmax())
    least = gradients.squares.copy()
    for row, expected in zip(chosen[:-1], chances[1:], strict=True):
        least = np.minimum(least, gradients.squared_distances(int(row) - 9))
        ours = least / least.sum()
        there = ~np.isnan(expected[9:])
        np.testing.assert_allclose(ours[there], expected[9:][there], atol=1e-9)


def test_draws_are_proportional_to_squared_distances() -> None:
    from scipy.stats import chisquare

    rows = Plain(np.array([[9.0], [0.0], [5.0], [8.0]]))
    random = np.random.default_rng(2)
    seconds = [k_means_plus_plus(rows, 2, random)[0][1] for _ in range(4000)]
    counts = np.bincount(seconds, minlength=4)
    squares = np.array([0.0, 81.0, 16.0, 1.0])
    assert counts[0] == 0
    assert chisquare(counts[1:], squares[1:] / squares.sum() * 4000).pvalue > 1e-4


def test_when_nothing_differs_any_more_the_first_rows_come() -> None:
    picks = k_means_plus_plus(Plain(np.ones((5, 2))), 5, np.random.default_rng(0))
    assert picks[0].tolist() == [0, 1, 2, 3, 4]
    assert picks[1].tolist() == [2.0, 0.0, 0.0, 0.0, 0.0]


def test_no_array_is_as_large_as_the_gradients_would_be() -> None:
    import tracemalloc

    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.ones(50), 4000).astype(np.float32)
    vectors = random.standard_normal((4000, 64)).astype(np.float32)
    tracemalloc.start()
    get_strategy("BADGE").pick(Inputs(probabilities=probabilities, vectors=vectors), 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 50 * 64 * 4 / 8
