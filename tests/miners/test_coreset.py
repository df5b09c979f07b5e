"""Greedy k-center: against a plain loop, other libraries, and the optimum."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from katiml.miners import Inputs, get_strategy
from katiml.miners.coreset import k_center
from katiml.vectors.cover import Cover
from katiml.vectors.distances import Points, exact_keys


def plain(vectors: Any, size: int, reference: Any, metric: str, first: int) -> list[int]:
    """Farthest first in float64, one distance after the other."""
    rows = np.asarray(vectors, np.float64)
    least = np.full(len(rows), np.inf)
    for centre in () if reference is None else np.asarray(reference, np.float64):
        least = np.minimum(least, exact_keys(rows, centre, metric))
    picked: list[int] = []
    for _ in range(size):
        position = first if not picked and reference is None else int(least.argmax())
        picked.append(position)
        least = np.minimum(least, exact_keys(rows, rows[position], metric))
        least[picked] = -1.0
    return picked


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    width=st.integers(1, 8),
    metric=st.sampled_from(["euclidean", "cosine"]),
    kind=st.sampled_from(["normal", "grid", "far away", "float16", "float64"]),
    centres=st.sampled_from([0, 1, 30]),
    block=st.sampled_from([1, 7, 1000]),
)
def test_picks_are_those_of_float64(
    seed: int, rows: int, width: int, metric: str, kind: str, centres: int, block: int
) -> None:
    random = np.random.default_rng(seed)
    vectors: NDArray[Any] = random.standard_normal((rows, width)).astype(np.float32)
    if kind == "grid":
        vectors = random.integers(-1, 2, (rows, width)).astype(np.float32)
    elif kind == "far away":
        vectors = (vectors * 1e-2 + 300).astype(np.float32)
    elif kind != "normal":
        vectors = vectors.astype(kind)
    reference = vectors[random.integers(0, rows, centres)] + vectors[:1] if centres else None
    found, _, _ = k_center(Points(vectors, metric, block_rows=block), rows, reference)
    assert found.tolist() == plain(vectors, rows, reference, metric, 0)


def test_the_largest_distance_left_is_at_most_twice_the_best() -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        count = int(random.integers(3, 10))
        vectors = random.standard_normal((count, 2))
        size = int(random.integers(1, count))
        between = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
        best = min(
            between[:, list(own)].min(axis=1).max() for own in combinations(range(count), size)
        )
        picked = k_center(vectors, size)[0]
        assert between[:, picked].min(axis=1).max() <= 2 * best + 1e-12


def test_distances_never_grow_and_name_their_centre() -> None:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((200, 5)).astype(np.float32)
    reference = random.standard_normal((20, 5)).astype(np.float32)
    positions, distances, centres = k_center(vectors, 60, reference)
    assert (np.diff(distances) <= 1e-12).all()
    everything = np.concatenate([reference, vectors[positions]]).astype(np.float64)
    for number, (position, distance, centre) in enumerate(
        zip(positions, distances, centres, strict=True)
    ):
        between = np.linalg.norm(everything[: 20 + number] - vectors[position], axis=1)
        assert distance == pytest.approx(between.min(), rel=1e-12)
        assert int(between.argmin()) == centre


def test_repeated_vectors_come_after_all_different_ones() -> None:
    vectors = np.array([[0.0], [3.0], [0.0], [9.0], [3.0], [9.0]], np.float32)
    positions, distances, _ = k_center(vectors, 6)
    assert positions.tolist() == [0, 3, 1, 2, 4, 5]
    assert distances[3:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("labelled", [1, 15])
def test_picks_are_scikit_activemls(labelled: int) -> None:
    from skactiveml.pool import CoreSet

    random = np.random.default_rng(2)
    vectors = random.standard_normal((60, 6))
    y = np.full(60, np.nan)
    y[:labelled] = 0
    expected = CoreSet(random_state=0).query(vectors, y, batch_size=15)
    inputs = Inputs(vectors=vectors[labelled:], reference=vectors[:labelled])
    picks = get_strategy("CORESET").pick(inputs, 15)
    assert (picks.positions + labelled).tolist() == np.asarray(expected).tolist()


def test_parts_of_a_matrix_find_what_the_whole_does() -> None:
    """How a cluster does it: each part has a Cover, and every centre goes to all of them."""
    random = np.random.default_rng(3)
    vectors = random.integers(-3, 4, (90, 4)).astype(np.float32)
    reference = vectors[:5] + np.float32(0.5)
    bounds = [0, 17, 40, 90]
    parts = [Cover(Points(vectors[a:b]), reference) for a, b in pairwise(bounds)]
    found = []
    for _ in range(40):
        offers = [(*part.farthest(), number) for number, part in enumerate(parts)]
        key, position, number = max(offers, key=lambda offer: (offer[0], -offer[2]))
        found.append(bounds[number] + position)
        for index, part in enumerate(parts):
            if index == number:
                part.take(position)
            else:
                part.add(vectors[found[-1] : found[-1] + 1])
        assert key >= 0
    assert found == k_center(vectors, 40, reference)[0].tolist()


def test_a_reference_on_disk_is_not_copied_whole(tmp_path: Any) -> None:
    random = np.random.default_rng(4)
    vectors = random.standard_normal((50, 3)).astype(np.float32)
    np.save(tmp_path / "reference.npy", random.standard_normal((700, 3)).astype(np.float32))
    reference = np.load(tmp_path / "reference.npy", mmap_mode="r")
    assert k_center(vectors, 20, reference)[0].tolist() == plain(
        vectors, 20, reference, "euclidean", 0
    )
