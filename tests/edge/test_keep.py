"""What of a stream is kept: the best, a fair sample, and centres with a guarantee."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katiml.edge import Miner
from katiml.edge.distances import distances, prepared
from katiml.edge.keep import Best, KCenter
from katiml.errors import InvalidInput
from katiml.vectors.distances import distances_of_keys, exact_keys

_numbers = st.lists(st.integers(-5, 5).map(float), max_size=40)


@settings(max_examples=200, deadline=None)
@given(_numbers, st.integers(1, 8), st.booleans(), st.one_of(st.none(), st.integers(-3, 3)))
def test_the_best_are_those_that_sorting_finds(
    values: list[float], size: int, highest: bool, threshold: int | None
) -> None:
    best = Best(size=size, threshold=threshold, highest=highest)
    for ticket, value in enumerate(values):
        best.offer(value, ticket)
    sign = -1 if highest else 1
    enough = [
        (sign * value, ticket)
        for ticket, value in enumerate(values)
        if threshold is None or sign * value <= sign * threshold
    ]
    assert best.tickets == sorted(ticket for _, ticket in sorted(enough)[:size])


def test_a_threshold_alone_keeps_all_that_reach_it_and_remembers_none() -> None:
    best = Best(threshold=1.0)
    assert [best.offer(value, 0) for value in (0.9, 1.0, 2.0)] == [False, True, True]
    assert best.tickets == []
    lowest = Best(threshold=1.0, highest=False)
    assert [lowest.offer(value, 0) for value in (0.9, 1.0, 2.0)] == [True, True, False]


def test_random_is_a_fair_sample_of_the_stream() -> None:
    counts = np.zeros(20)
    for seed in range(600):
        miner = Miner("RANDOM", size=5, seed=seed)
        for number in range(20):
            miner.offer({"text": number})
        kept = [record["text"] for record in miner.records()]
        assert len(set(kept)) == 5
        counts[kept] += 1
    # Chi-square with 19 degrees of freedom: over 43.8 once in 1,000 runs, were it fair. The
    # variance of a sample without replacement is smaller by (1 - 5 / 20).
    expected = 600 * 5 / 20
    assert ((counts - expected) ** 2 / expected).sum() / (1 - 5 / 20) < 43.8


def test_the_same_seed_keeps_the_same_records() -> None:
    def kept(seed: int) -> list[int]:
        miner = Miner("RANDOM", size=4, seed=seed)
        for number in range(50):
            miner.offer({"text": number})
        return [record["text"] for record in miner.records()]

    assert kept(1) == kept(1) != kept(2)


# -- centres ---------------------------------------------------------------------------------


def _coverage(points: Any, centres: Any, metric: str) -> float:
    """How far the farthest of some points is from the nearest centre (chords under cosine)."""
    points, centres = prepared(points, metric), prepared(centres, metric)
    return max(float(distances(point, centres, metric, chord=True).min()) for point in points)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.sampled_from(["euclidean", "cosine"]),
    st.booleans(),
)
def test_the_radius_holds_and_is_at_most_8_times_the_best(
    seed: int, size: int, metric: str, referenced: bool
) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(size + 1, 10))
    points = random.normal(size=(count, 2)) * random.choice([0.1, 1, 30], (count, 1))
    if random.random() < 0.3:
        points = np.round(points)  # equal points, and zeros
    reference = random.normal(size=(2, 2)) if referenced else None
    known = np.zeros((0, 2)) if reference is None else reference
    centres = KCenter(size, reference=reference, metric=metric)
    for number, point in enumerate(points):
        centres.offer(point, number)
        assert 1 - referenced <= len(centres.tickets) <= size
        chosen = np.concatenate([points[centres.tickets], known])
        covered = _coverage(points[: number + 1], chosen, metric)
        assert covered <= centres.radius + 1e-9
    best = min(
        _coverage(points, np.concatenate([points[list(some)], known]), metric)
        for some in itertools.combinations(range(count), size)
    )
    assert centres.radius <= 8 * best + 1e-9


def test_what_is_near_a_reference_is_not_chosen_once_the_budget_is_tight() -> None:
    random = np.random.default_rng(0)
    old, new = random.normal(size=(300, 4)), 20 + random.normal(size=(30, 4))
    centres = KCenter(5, reference=old[:100])
    stream = np.concatenate([old[100:], new])
    order = random.permutation(len(stream))
    for ticket in order:
        centres.offer(stream[ticket], int(ticket))
    assert max(centres.tickets) >= 200
    assert _coverage(new, stream[centres.tickets], "euclidean") < 8 * np.sqrt(4) * 3


def test_equal_vectors_are_kept_once() -> None:
    centres = KCenter(3)
    assert [centres.offer([1.0, 2.0], n) for n in range(4)] == [True, False, False, False]


def test_memory_stays_bounded_over_many_uploads() -> None:
    random = np.random.default_rng(1)
    centres = KCenter(4)
    for period in range(60):
        for ticket in range(20):
            centres.offer(random.normal(size=3) * 3**period, 100 * period + ticket)
        centres.release(centres.tickets)
    assert centres.tickets == []
    assert centres.reference is not None and len(centres.reference) <= 40


def test_centres_that_were_sent_become_reference() -> None:
    centres = KCenter(2)
    centres.offer([0.0], 1)
    centres.offer([5.0], 2)
    centres.release([1])
    assert centres.tickets == [2]
    assert not centres.offer([0.0], 3)
    assert centres.offer([9.0], 4)


def test_vectors_of_other_lengths_are_refused() -> None:
    centres = KCenter(2)
    centres.offer([0.0, 1.0], 1)
    with pytest.raises(InvalidInput, match="a vector of 3 values among vectors of 2"):
        centres.offer([0.0, 1.0, 2.0], 2)
    with pytest.raises(InvalidInput, match="shape"):
        centres.offer([[0.0, 1.0]], 2)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["euclidean", "cosine"]))
def test_distances_are_those_of_the_lake(seed: int, metric: str) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(6, 3)) * 10.0 ** random.integers(-3, 4)
    rows[0] = 0
    vector = random.normal(size=3) * (random.random() < 0.8)
    expected = distances_of_keys(exact_keys(rows, vector, metric), metric)
    found = distances(prepared(vector, metric), prepared(rows, metric), metric)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
