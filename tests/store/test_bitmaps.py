"""Bitmaps over row numbers: equal sets have equal bytes, however they came about."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from katiml.store.bitmaps import LARGEST_ROW, digest, from_rows, pack, to_rows, unpack

_RUNS = st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 40)), max_size=30).map(
    lambda runs: {number for start, size in runs for number in range(start, start + size)}
)
SETS = st.one_of(
    _RUNS,
    st.sets(st.integers(0, LARGEST_ROW), max_size=50),
    _RUNS.map(lambda holes: set(range(300_000)) - holes),
)


def made_in_every_way(numbers: set[int]) -> Iterator[BitMap]:
    plain = BitMap(sorted(numbers))
    yield plain
    ranges = BitMap()
    for number in numbers:
        ranges.add_range(number, number + 1)
    yield ranges
    optimised = plain.copy()
    optimised.run_optimize()
    yield optimised
    yield from_rows(np.array(sorted(numbers, reverse=True), dtype=np.int64))
    everything = BitMap()
    everything.add_range(0, 2**32)
    yield everything & plain
    yield (everything ^ optimised) ^ everything
    yield (optimised | BitMap([7, 9])) - (BitMap([7, 9]) - optimised)
    yield unpack(pack(plain))


@settings(max_examples=60, deadline=None)
@given(SETS)
def test_equal_sets_have_equal_bytes(numbers: set[int]) -> None:
    packed = {pack(bitmap) for bitmap in made_in_every_way(numbers)}
    assert len(packed) == 1
    (data,) = packed
    assert set(unpack(data)) == numbers
    assert to_rows(unpack(data)).tolist() == sorted(numbers)


@settings(max_examples=60, deadline=None)
@given(SETS, SETS)
def test_different_sets_have_different_hashes(one: set[int], other: set[int]) -> None:
    same = digest(pack(BitMap(one))) == digest(pack(BitMap(other)))
    assert same == (one == other)


def test_rows_come_as_arrays_and_columns() -> None:
    for rows in (
        np.array([3, 1, 2, 3]),
        pa.array([1, 2, 3], pa.int64()),
        pa.chunked_array([[3], [1, 2], []], pa.int64()),
        [1, 2, 3],
    ):
        assert from_rows(rows) == BitMap([1, 2, 3])
    assert from_rows(np.array([], np.int64)) == BitMap()
    assert from_rows(np.array([LARGEST_ROW])) == BitMap([LARGEST_ROW])
    for wrong in (-1, LARGEST_ROW + 1):
        with pytest.raises(ValueError, match="row numbers"):
            from_rows(np.array([wrong]))


def test_a_million_scattered_members_take_a_bit_each() -> None:
    rows = np.random.default_rng(0).choice(2_000_000, 1_000_000, replace=False)
    assert len(pack(from_rows(rows))) < 260_000
    assert len(pack(from_rows(np.arange(1_000_000)))) < 300
