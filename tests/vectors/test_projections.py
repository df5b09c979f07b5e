"""Vectors in a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from katiml.errors import InvalidInput
from katiml.vectors import project
from katiml.vectors.projections import pca


def clusters(rows: int = 40, width: int = 8) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    kinds = np.arange(rows) % 4
    return kinds, (20 * np.eye(4, width)[kinds] + random.standard_normal((rows, width)))


def test_principal_components_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.decomposition import PCA

    monkeypatch.setattr("katiml.vectors.projections._VALUES", 100)
    random = np.random.default_rng(1)
    vectors = random.standard_normal((200, 12)) * np.arange(1, 13) + 1000
    expected = PCA(5, svd_solver="full").fit_transform(vectors)
    ours = pca(vectors, 5)
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * signs, expected, atol=1e-3)


@pytest.mark.parametrize("method", ["pca", "t-SNE", "UMAP"])
def test_what_lies_together_stays_together(method: str) -> None:
    from sklearn.neighbors import NearestNeighbors

    kinds, vectors = clusters(60)
    places = project(vectors.astype(np.float32), method, seed=3)
    assert places.shape == (60, 2) and places.dtype == np.float32
    assert np.isfinite(places).all()
    if method != "pca":  # two directions do not tell four corners apart
        near = NearestNeighbors(n_neighbors=5).fit(places).kneighbors(return_distance=False)
        assert (kinds[near] == kinds[:, None]).mean() > 0.95
    np.testing.assert_array_equal(places, project(vectors.astype(np.float32), method, seed=3))


@pytest.mark.parametrize(
    ("method", "rows"),
    [*((method, rows) for method in ("pca", "tsne") for rows in (0, 1, 2, 3, 4)), ("umap", 7)],
)
def test_few_vectors(method: str, rows: int) -> None:
    vectors = clusters()[1][:rows]
    places = project(vectors, method)
    assert places.shape == (rows, 2) and np.isfinite(places).all()


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_same_vector_over_and_over(method: str) -> None:
    assert np.isfinite(project(np.ones((20, 3)), method)).all()


def test_a_single_value_leaves_the_second_place_empty() -> None:
    assert project(np.array([[1.0], [3.0]])).tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_what_cannot_be_projected() -> None:
    with pytest.raises(InvalidInput, match="no projection"):
        project(np.ones((5, 2)), "isomap")
    with pytest.raises(InvalidInput, match="dimensions"):
        project(np.ones(5))
    with pytest.raises(InvalidInput, match="NaN"):
        project(np.array([[1.0], [np.nan]]))
