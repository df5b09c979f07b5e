"""OUTLIER, NOVELTY, TYPICLUST, DENSITY and the distances to a reference, against others' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katiml.errors import InvalidInput
from katiml.miners import Inputs, get_strategy
from katiml.miners.density import most_covering
from katiml.miners.nearest_neighbors import by_distance
from katiml.miners.novelty import novelty
from katiml.miners.outlier import local_outlier_factor
from katiml.miners.typiclust import most_typical, typicality
from katiml.vectors.distances import exact_keys
from katiml.vectors.kmeans import assign, k_means


def points(rows: int, width: int = 5, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


# -- outliers --------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("neighbors", [1, 5, 20])
def test_outlier_factors_are_scikit_learns(metric: str, neighbors: int) -> None:
    from sklearn.neighbors import LocalOutlierFactor

    vectors = points(150)
    reference = LocalOutlierFactor(neighbors, algorithm="brute", metric=metric)
    reference.fit(vectors.astype(np.float64))
    ours = local_outlier_factor(vectors, neighbors, metric=metric)
    np.testing.assert_allclose(ours, -reference.negative_outlier_factor_, rtol=1e-6)


def test_what_stands_apart_is_found() -> None:
    vectors = points(200)
    vectors[77] += 30
    picks = get_strategy("OUTLIER").pick(Inputs(vectors=vectors), 1)
    assert picks.positions.tolist() == [77]
    assert local_outlier_factor(np.ones((30, 2))).tolist() == [1.0] * 30


# -- distances to a reference ----------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(["euclidean", "cosine"]),
    highest=st.booleans(),
    grid=st.booleans(),
    size=st.integers(1, 30),
)
def test_nearest_and_farthest_are_those_of_float64(
    seed: int, metric: str, highest: bool, grid: bool, size: int
) -> None:
    random = np.random.default_rng(seed)
    draw: Any = (lambda shape: random.integers(-2, 3, shape)) if grid else random.standard_normal
    vectors, reference = (np.asarray(draw((rows, 4)), np.float32) for rows in (30, 12))
    keys = np.stack([exact_keys(vectors, centre, metric) for centre in reference])
    least = keys.min(axis=0)
    order = np.argsort(-least if highest else least, kind="stable")[:size]
    positions, distances, rows = by_distance(
        vectors, reference, size, metric=metric, highest=highest
    )
    assert positions.tolist() == order.tolist()
    expected = np.sqrt(least[order]) if metric == "euclidean" else least[order]
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    np.testing.assert_allclose(keys[rows, positions], least[order], atol=1e-12)


def test_novelty_is_the_ratio_of_distances() -> None:
    from sklearn.neighbors import NearestNeighbors

    vectors, reference = points(40, seed=1), points(80, seed=2)
    search = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(reference.astype(np.float64))
    distances, rows = search.kneighbors(vectors.astype(np.float64))
    own = search.kneighbors(reference.astype(np.float64), 4)[0][:, 1:].mean(axis=1)
    scores, nearest = novelty(vectors, reference, 3)
    np.testing.assert_allclose(scores, distances.mean(axis=1) / own[rows].mean(axis=1), rtol=1e-6)
    assert nearest.tolist() == rows[:, 0].tolist()


def test_novelty_sees_density_where_distance_does_not() -> None:
    """As far from a dense part as another is from a thin one: the first is novel."""
    dense = np.linspace(0, 0.1, 50)[:, None]
    thin = np.linspace(100, 200, 50)[:, None]
    reference = np.concatenate([dense, thin]).astype(np.float32)
    vectors = np.array([[1.1], [201.0]], np.float32)
    near_dense, near_thin = novelty(vectors, reference)[0]
    assert near_dense > 50 * near_thin
    with pytest.raises(InvalidInput, match="at least 2"):
        novelty(vectors, reference[:1])


# -- typical ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [0, 3])
def test_typical_picks_are_scikit_activemls_for_the_same_clusters(labelled: int) -> None:
    from skactiveml.pool import TypiClust

    random = np.random.default_rng(4)
    vectors = random.standard_normal((90, 4))
    # Sizes that all differ: it breaks ties by chance.
    clusters = np.repeat(np.arange(8), [5, 6, 8, 10, 12, 14, 16, 19])
    random.shuffle(clusters)

    class Given:
        def __init__(self, n_clusters: int = 8) -> None:
            self.n_clusters = n_clusters

        def fit_predict(self, _vectors: Any) -> Any:
            return clusters

    y = np.full(90, np.nan)
    y[:labelled] = 1
    wanted = 8 - labelled
    strategy = TypiClust(cluster_algo=Given, n_cluster_param_name="n_clusters", random_state=0, k=6)
    expected = strategy.query(vectors, y, batch_size=wanted)
    open_clusters = [cluster for cluster in range(8) if cluster not in clusters[:labelled]]
    ours, scores = most_typical(
        vectors[labelled:], clusters[labelled:], clusters[:labelled], wanted, 6
    )
    # The clusters get larger with their number.
    assert clusters[labelled:][ours].tolist() == sorted(open_clusters, reverse=True)[:wanted]
    assert (ours + labelled).tolist() == np.asarray(expected).tolist()
    for position, score in zip(ours, scores, strict=True):
        members = np.flatnonzero(clusters[labelled:] == clusters[labelled:][position])
        assert score == typicality(vectors[labelled:][members], 6).max()


def test_all_clusters_come_before_any_comes_twice() -> None:
    vectors = np.concatenate([points(20, seed=seed) + 50 * seed for seed in range(6)])
    picks = get_strategy("TYPICLUST").pick(Inputs(vectors=vectors), 6, seed=1)
    assert sorted(position // 20 for position in picks.positions) == list(range(6))
    few = get_strategy("TYPICLUST", max_clusters=3).pick(Inputs(vectors=vectors), 9, seed=1)
    assert np.bincount(few.reasons["cluster"]).tolist() == [3, 3, 3]


def test_clusters_are_about_as_tight_as_scikit_learns() -> None:
    from sklearn.cluster import KMeans

    vectors = points(600, 4, seed=5)
    reference = KMeans(12, n_init=1, random_state=0).fit(vectors)
    for seed in range(3):
        centres = k_means([vectors[:200], vectors[200:]], 12, np.random.default_rng(seed))
        inertia = ((vectors - centres[assign(vectors, centres)]) ** 2).sum()
        assert inertia < 1.1 * reference.inertia_
    assert len(k_means([np.ones((50, 2))], 7, np.random.default_rng(0))) == 1


# -- near-duplicates -------------------------------------------------------------------------


def greedy_cover(vectors: Any, size: int, key: float, covered: Any, metric: str) -> Any:
    """One comparison after the other: (positions, how many each stands for)."""
    near = np.stack([exact_keys(vectors, row, metric) <= key for row in vectors])
    positions: list[int] = []
    counts: list[int] = []
    covered = covered.copy()
    while len(positions) < size:
        new = np.where(covered, -1, (near & ~covered).sum(axis=1))
        best = int(new.argmax())
        if new[best] < 0:
            rest = [row for row in range(len(vectors)) if row not in positions]
            positions += rest[: size - len(positions)]
            counts += [0] * (size - len(counts))
            break
        positions.append(best)
        counts.append(int(new[best]))
        covered |= near[best]
    return positions, counts


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(["euclidean", "cosine"]),
    radius=st.sampled_from([0.0, 0.05, 1.0, 2.0]),
    with_reference=st.booleans(),
)
def test_cover_is_the_plain_greedy_one(
    seed: int, metric: str, radius: float, with_reference: bool
) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-2, 3, (35, 3)).astype(np.float32)
    reference = vectors[:3] if with_reference else None
    key = radius**2 if metric == "euclidean" else radius
    covered = np.zeros(35, bool)
    for row in () if reference is None else reference:
        covered |= exact_keys(vectors, row, metric) <= key
    expected = greedy_cover(vectors, 20, key, covered, metric)
    positions, counts = most_covering(vectors, 20, radius, reference, metric=metric)
    assert (positions.tolist(), counts.tolist()) == expected


def test_one_of_many_near_duplicates_is_kept() -> None:
    random = np.random.default_rng(6)
    kinds = random.standard_normal((10, 16))
    vectors = np.repeat(kinds, np.arange(1, 11), axis=0)
    vectors += 1e-3 * random.standard_normal(vectors.shape)
    picks = get_strategy("DENSITY").pick(Inputs(vectors=vectors.astype(np.float32)), 10)
    assert picks.scores.tolist() == list(range(10, 0, -1))
