"""Choosing among the members of datasets, and putting what was picked into one."""

from __future__ import annotations

from typing import Any

import pytest

import katiml
from katiml.errors import InvalidInput, NotFound
from katiml.mining.configuration import Configuration
from tests.mining.conftest import LABELLED, UNLABELLED
from tests.mining.test_miners import texts


def test_a_labelling_round(filled: katiml.Lake) -> None:
    train = filled.datasets.create("train")
    train.add(filters=LABELLED)
    for _ in range(2):
        picked = filled.mine("ENTROPY", 3, model_name="net", exclude_dataset="train")
        assert train.add(picked) == 3
    assert len(train) == 26
    picked = filled.mine("ENTROPY", 3, model_name="net", dataset=train)
    assert texts(filled, picked) == ["0", "1", "2"]
    picked = filled.mine("CORESET", 34, model_name="net:last", reference_dataset=train, seed=1)
    assert set(map(int, texts(filled, picked))) == set(range(6, 40))
    with pytest.raises(InvalidInput, match="34 datapoints only"):
        filled.mine("CORESET", 35, model_name="net:last", reference_dataset="train")


def test_members_are_found_at_each_run__and_kept_with_the_explanation(
    filled: katiml.Lake,
) -> None:
    train = filled.datasets.create("train")
    train.add(filters=LABELLED)
    version = train.commit("first")
    miner = filled.miners.create("RANDOM", 20, dataset="train", seed=5).run()
    first = miner.picked
    assert miner.configuration["select"] == {"filters": [], "dataset_id": "train"}
    train.remove(first.ids[:10])
    train.add(filters=UNLABELLED)
    assert set(miner.run().picked) != set(first)
    assert filled.miners.repeat(first.explanation).ids == first.ids
    pinned = filled.mine("RANDOM", 20, dataset="train", version=version, seed=5)
    assert pinned.ids == first.ids
    assert filled.mine("RANDOM", 20, version=version.id, seed=5).ids == first.ids
    estimate = filled.miners.estimate("RANDOM", 1, dataset="train", exclude_dataset="train")
    assert estimate.usable == 0


def test_editing_keeps_the_dataset(quick: katiml.Lake) -> None:
    quick.datasets.create("train").add(filters=LABELLED)
    miner = quick.miners.create("RANDOM", 2, exclude_dataset="train", limit=9)
    miner.edit(select={"filters": UNLABELLED})
    assert miner.configuration["select"] == {
        "filters": UNLABELLED,
        "limit": 9,
        "exclude_dataset_id": "train",
    }
    miner.edit(select={"exclude_dataset_id": None})
    assert miner.configuration["select"] == {"filters": UNLABELLED, "limit": 9}


def test_a_dataset_that_is_gone(quick: katiml.Lake) -> None:
    quick.datasets.create("train").add(filters=LABELLED)
    miner = quick.miners.create("RANDOM", 2, dataset="train")
    quick.datasets.delete("train")
    with pytest.raises(NotFound, match="train"):
        miner.run()
    assert miner.status == "FAILURE"
    with pytest.raises(NotFound):
        quick.mine("RANDOM", 1, reference_dataset="other", dataset="other")


@pytest.mark.parametrize("wrong", [3, "", "x" * 2_000, "a\0b", ["train"]])
def test_wrong_names_of_datasets(wrong: Any) -> None:
    for name in ("dataset_id", "version_id", "exclude_dataset_id"):
        with pytest.raises(InvalidInput, match=name):
            Configuration.of({"strategy": "RANDOM", "size": 1, "select": {name: wrong}})
