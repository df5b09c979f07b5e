"""A lake with twelve datapoints and a dataset, in each home."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from katiml.datasets import Dataset
from katiml.lake import Lake

Label = Callable[[str, str], None]


def records(count: int = 12) -> list[dict[str, Any]]:
    """Texts t0 ... with a tag `half` and a class each."""
    return [
        {
            "type": "TEXT",
            "text": f"t{number}",
            "tags": {"half": "even" if number % 2 == 0 else "odd"},
            "groundtruths": [
                {"task_type": "CLASSIFICATION", "class_name": "cat" if number < 6 else "dog"}
            ],
        }
        for number in range(count)
    ]


EVEN = [
    {"left": "tags.name", "op": "=", "right": "half"},
    {"left": "tags.value", "op": "=", "right": "even"},
]


@pytest.fixture
def ids(lake: Lake) -> list[str]:
    """The ids of t0, t1 ... t11 in a lake."""
    lake.ingest(records())
    frame = lake.datapoints.select(fields=["id", "text"])
    by_text = dict(zip(frame["text"], frame["id"], strict=True))
    return [by_text[f"t{number}"] for number in range(12)]


@pytest.fixture
def dataset(lake: Lake, ids: list[str]) -> Dataset:
    """An empty dataset in the same lake."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return lake.datasets.create("pets", author="ann")


@pytest.fixture
def label(lake: Lake) -> Label:
    """Gives a datapoint another class."""

    def give(id_: str, class_name: str) -> None:
        truth = {"task_type": "CLASSIFICATION", "class_name": class_name}
        assert lake.ingest([{"id": id_, "groundtruths": [truth]}]).status == "SUCCEEDED"

    return give


def texts(rows: Any) -> set[str]:
    """The texts of the datapoints in a collection."""
    return set(rows.select(fields=["text"])["text"])
