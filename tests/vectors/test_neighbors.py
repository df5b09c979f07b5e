"""Exact nearest neighbours against scikit-learn and a plain search in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katiml.errors import InvalidInput
from katiml.vectors import nearest
from katiml.vectors.distances import METRICS, Points, exact_keys
from katiml.vectors.neighbors import nearest_keys


def plain(queries: Any, matrix: Any, k: int, metric: str) -> tuple[Any, Any]:
    """Every distance in float64, the first of equals first."""
    keys = np.stack([exact_keys(matrix, query, metric) for query in np.asarray(queries)])
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(keys, order, axis=1), order


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbours_are_scikit_learns(metric: str, dtype: Any) -> None:
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng(0)
    matrix = random.standard_normal((500, 24)).astype(dtype)
    queries = random.standard_normal((40, 24)).astype(dtype)
    reference = NearestNeighbors(n_neighbors=7, algorithm="brute", metric=metric)
    reference.fit(matrix.astype(np.float64))
    expected, rows = reference.kneighbors(queries.astype(np.float64))
    distances, positions = nearest(queries, matrix, 7, metric)
    assert positions.tolist() == rows.tolist()
    np.testing.assert_allclose(distances, expected, atol=1e-9)


def test_dot_is_the_largest_inner_product() -> None:
    random = np.random.default_rng(1)
    matrix, queries = random.standard_normal((300, 9)), random.standard_normal((8, 9))
    distances, positions = nearest(queries, matrix, 5, "dot")
    products = queries @ matrix.T
    assert positions.tolist() == np.argsort(-products, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(distances, np.sort(-products, axis=1)[:, :5])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    width=st.integers(1, 6),
    k=st.integers(1, 12),
    metric=st.sampled_from(METRICS),
    shift=st.sampled_from([0.0, 100.0, -1e4]),
    block=st.sampled_from([1, 3, 1000]),
)
def test_ties_go_to_the_first_rows(
    seed: int, rows: int, width: int, k: int, metric: str, shift: float, block: int
) -> None:
    """Small whole numbers make ties, a shift makes products lose digits."""
    random = np.random.default_rng(seed)
    matrix = random.integers(-1, 2, (rows, width)).astype(np.float32) + np.float32(shift)
    queries = random.integers(-1, 2, (5, width)).astype(np.float32) + np.float32(shift)
    expected, order = plain(queries, matrix, k, metric)
    keys, positions = nearest_keys(queries, Points(matrix, metric, block_rows=block), k)
    assert positions.tolist() == order.tolist()
    np.testing.assert_array_equal(keys, expected)


def test_zero_vectors_under_cosine() -> None:
    matrix = np.array([[0.0, 0.0], [1.0, 0.0], [-2.0, 0.0]], np.float32)
    distances, positions = nearest([[0.0, 0.0], [3.0, 0.0]], matrix, 3, "cosine")
    assert positions.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert distances.tolist() == [[0.0, 1.0, 1.0], [0.0, 1.0, 2.0]]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_values_whose_squares_do_not_fit_float32(metric: str, size: float) -> None:
    random = np.random.default_rng(2)
    matrix = (random.standard_normal((50, 4)) * size).astype(np.float32)
    queries = (random.standard_normal((3, 4)) * size).astype(np.float32)
    expected, order = plain(queries, matrix, 5, metric)
    keys, positions = nearest_keys(queries, Points(matrix, metric), 5)
    assert positions.tolist() == order.tolist()
    np.testing.assert_allclose(keys, expected)


def test_values_too_large_for_any_type_are_refused() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        nearest([[1e300]], np.array([[1e300]]))


def test_a_row_can_leave_itself_out() -> None:
    random = np.random.default_rng(3)
    matrix = random.standard_normal((30, 3)).astype(np.float32)
    matrix[5] = matrix[4]
    keys, positions = nearest_keys(matrix, Points(matrix, block_rows=7), 29, apart=np.arange(30))
    assert all(row not in found for row, found in enumerate(positions.tolist()))
    assert all(len(set(found)) == 29 for found in positions.tolist())
    assert positions[4, 0] == 5 and keys[4, 0] == 0


def test_fewer_rows_than_neighbours_and_none_at_all() -> None:
    matrix = np.eye(3, dtype=np.float32)
    assert nearest(matrix, matrix, 10)[1].shape == (3, 3)
    assert nearest(np.zeros((0, 3)), matrix, 2)[1].shape == (0, 2)
    assert nearest(matrix, np.zeros((0, 3)), 2)[1].shape == (3, 0)


@pytest.mark.parametrize("k", [0, -1, True, 1.5, None])
def test_a_number_of_neighbours_that_is_none(k: Any) -> None:
    with pytest.raises(InvalidInput, match="k is"):
        nearest([[1.0]], np.ones((2, 1)), k)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidInput, match="3 values"):
        nearest(np.ones((1, 2)), np.ones((2, 3)))
    with pytest.raises(InvalidInput, match="metric"):
        nearest(np.ones((1, 3)), np.ones((2, 3)), metric="manhattan")
    with pytest.raises(InvalidInput, match="dimensions"):
        nearest(np.ones((1, 3)), np.ones(3))


@pytest.mark.parametrize("metric", METRICS)
def test_torch_finds_the_same(metric: str) -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(4)
    matrix = random.integers(-2, 3, (200, 6)).astype(np.float32)
    queries = random.integers(-2, 3, (20, 6)).astype(np.float32)
    here = nearest(queries, matrix, 9, metric)
    for dtype in (torch.float32, torch.float16, torch.float64):
        tensor = torch.from_numpy(matrix.copy()).to(dtype)
        there = nearest(torch.from_numpy(queries.copy()), tensor, 9, metric)
        assert here[1].tolist() == there[1].tolist()
        np.testing.assert_array_equal(here[0], there[0])
