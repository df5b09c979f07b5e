"""Member sets on disk: each is what was written, and changes cost what they change."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap

from katiml.datasets import sets
from katiml.datasets.sets import EMPTY, read_set, set_hash, write_set
from katiml.errors import StoreError
from katiml.store.bitmaps import from_rows
from katiml.store.scope import Scope, ScopedTransaction


@pytest.fixture(autouse=True)
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read comes from the lake."""
    monkeypatch.setattr(sets, "_cache", sets._Cache(0))


def scattered(seed: int, count: int = 20_000) -> BitMap:
    return from_rows(np.random.default_rng(seed).choice(100_000, count, replace=False))


def write(scope: Scope, members: BitMap, base: str = EMPTY) -> str:
    return scope.transact(lambda transaction: write_set(transaction, members, base))


def test_sets_are_stored_once_and_read_back(scope: Scope) -> None:
    members = scattered(1)
    name = write(scope, members)
    assert name == set_hash(members) == write(scope, members, name) == write(scope, members)
    assert read_set(scope, name) == members
    assert read_set(scope, EMPTY) == BitMap() and write(scope, BitMap(), name) == EMPTY
    assert scope.query("SELECT count(*) FROM {member_sets}").column(0)[0].as_py() == 1


def test_a_chain_of_small_changes_costs_what_they_change(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "_MAX_DIFFERENCES", 12)

    def work(transaction: ScopedTransaction) -> dict[int, tuple[str, BitMap]]:
        random = np.random.default_rng(2)
        members, name = scattered(1), EMPTY
        written = {}
        for number in range(40):
            name = write_set(transaction, members, name)
            written[number] = (name, members.copy())
            members = members ^ from_rows(random.choice(100_000, 5))
        return written

    for name, members in scope.transact(work).values():
        assert read_set(scope, name) == members
    (row,) = scope.query(
        "SELECT sum(octet_length(data)) AS bytes, count(*) FILTER (parent IS NULL) AS whole, "
        "max(position) AS longest FROM {member_sets}"
    ).to_pylist()
    assert row["bytes"] < 5 * 16_500 and row["whole"] <= 4
    assert row["longest"] <= sets._MAX_DIFFERENCES


def test_large_changes_are_stored_whole(scope: Scope) -> None:
    first = write(scope, scattered(1))
    other = scattered(2)
    assert read_set(scope, write(scope, other, first)) == other
    assert scope.query("SELECT sum(position) FROM {member_sets}").column(0)[0].as_py() == 0


def test_branches_of_one_set_do_not_mix(scope: Scope) -> None:
    root = scattered(1)
    name = write(scope, root)
    branches = [root ^ BitMap([number, number + 1000]) for number in range(20)]
    deeper = [branch ^ BitMap([7]) for branch in branches]

    def work(transaction: ScopedTransaction) -> tuple[list[str], list[str]]:
        names = [write_set(transaction, branch, name) for branch in branches]
        bases = zip(deeper, names, strict=True)
        return names, [write_set(transaction, branch, base) for branch, base in bases]

    names, deeper_names = scope.transact(work)
    for stored, members in zip([*names, *deeper_names], [*branches, *deeper], strict=True):
        assert read_set(scope, stored) == members


def test_sets_belong_to_one_organization(scope: Scope) -> None:
    name = write(scope, scattered(1))
    other = Scope(scope.store, "other")
    with pytest.raises(StoreError, match="missing"):
        read_set(other, name)
    assert read_set(other, write(other, scattered(1))) == scattered(1)


def test_two_writers_of_one_set_leave_it_readable(scope: Scope) -> None:
    """Rows that two transactions stored at the same time may name each other as parents."""
    one, two = scattered(1), scattered(1) ^ BitMap([5])
    root = write(scope, one ^ BitMap([9]))
    first, second = write(scope, one, root), write(scope, two, root)

    scope.store.transact(
        lambda transaction: transaction.execute(
            "INSERT INTO lake.member_sets SELECT * REPLACE (2 AS position, "
            "CASE hash WHEN $one THEN $two ELSE $one END AS parent) "
            "FROM lake.member_sets WHERE hash IN ($one, $two)",
            {"one": first, "two": second},
        )
    )
    assert read_set(scope, first) == one and read_set(scope, second) == two


def test_the_cache_keeps_what_fits() -> None:
    cache = sets._Cache(100)
    for number in range(5):
        cache.put(str(number), BitMap([number]), 30)
    assert [cache.get(str(number)) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    cache.put("large", BitMap(), 101)
    assert cache.get("large") is None and cache.get("2") == BitMap([2])
