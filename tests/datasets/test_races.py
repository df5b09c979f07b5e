"""Several writers of one dataset: nothing is lost, and the loser of a race is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import katiml
from katiml.datasets import Dataset
from katiml.errors import Conflict
from katiml.lake import Lake


def together(*works: Any) -> list[Any]:
    """Run all at once; results, or the Conflict that one ended with."""

    def guarded(work: Any) -> Any:
        try:
            return work()
        except Conflict as conflict:
            return conflict

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(guarded, works))


def test_adding_at_once_loses_nothing(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    added = together(*(lambda id_=id_: dataset.add(id_) for id_ in ids))
    assert added == [1] * 12
    assert set(dataset.ids()) == set(ids) and dataset.revision == 13


def test_adding_and_committing_at_once(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    def work(part: list[str]) -> Any:
        dataset.add(part)
        return dataset.commit(f"with {part[0]}")

    parts = [ids[start : start + 3] for start in range(0, 12, 3)]
    results = together(*(lambda part=part: work(part) for part in parts))
    lost = [one for one in results if isinstance(one, Conflict)]
    made = [one for one in results if not isinstance(one, Conflict)]
    assert all("nothing to commit" in one.message and one.hint for one in lost)
    assert set(dataset.at("HEAD").ids()) == set(ids) and dataset.status().clean
    assert {one.id for one in dataset.versions()} == {one.id for one in made}
    # One line, whatever the order.
    assert len(dataset.branches()) == 1


def test_datasets_are_made_once(lake: Lake) -> None:
    made = together(*(lambda: lake.datasets.get_or_create("train") for _ in range(6)))
    assert len(set(made)) == 1 and len(lake.datasets.list()) == 1


def test_an_expected_revision_finds_out(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:2])
    first = dataset.commit("two")
    seen = dataset.status().revision
    dataset.add(ids[2])
    for edit in (
        lambda: dataset.add(ids[3], expected_revision=seen),
        lambda: dataset.remove(ids[0], expected_revision=seen),
        lambda: dataset.commit("x", expected_revision=seen),
        lambda: dataset.checkout(first, force=True, expected_revision=seen),
        lambda: dataset.restore(expected_revision=seen),
        lambda: dataset.merge(first, expected_revision=seen),
    ):
        with pytest.raises(Conflict, match="somebody changed it") as caught:
            edit()
        assert caught.value.details == {"revision": seen + 1, "expected_revision": seen}
    assert set(dataset.ids()) == set(ids[:3])
    dataset.commit("three", expected_revision=seen + 1)


def test_two_processes_worth_of_lakes(lake_url: str) -> None:
    """Two lakes opened on one URL see each other's edits at once."""
    with katiml.connect(lake_url) as one, katiml.connect(lake_url) as two:
        one.ingest([{"type": "TEXT", "text": str(number)} for number in range(4)])
        here = one.datasets.create("shared")
        there = two.datasets.get("shared")
        here.add(all=True)
        version = there.commit("all")
        assert here.head == version and here.status().clean
