"""What the tests of miners share: a lake with a pool to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import katiml

COUNT = 60


def pool(count: int = COUNT, width: int = 4) -> list[dict[str, Any]]:
    """Texts numbered 0…; those from 40 on are labelled; the last ten have no embeddings."""
    random = np.random.default_rng(0)
    records: list[dict[str, Any]] = []
    for number in range(count):
        prediction: dict[str, Any] = {
            "task_type": "CLASSIFICATION",
            "model_name": "net",
            "class_names": ["cat", "dog"],
            "logits": [0.0, number / 10],
        }
        if number < count - 10:
            prediction["embeddings"] = {"last": random.normal(size=width).round(3).tolist()}
        split = "labelled" if number >= 40 else "unlabelled"
        records.append(
            {
                "type": "TEXT",
                "text": str(number),
                "tags": {"split": split},
                "predictions": [prediction],
            }
        )
    return records


UNLABELLED = [{"left": "tags.value", "op": "=", "right": "unlabelled"}]
LABELLED = [{"left": "tags.value", "op": "=", "right": "labelled"}]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[katiml.Lake]:
    """A pool in a folder, for tests that change no records."""
    with katiml.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.ingest(pool())
        yield lake


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[katiml.Lake]:
    """A lake with a pool, in a folder."""
    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest(pool())
        yield lake


@pytest.fixture
def filled(lake: katiml.Lake) -> katiml.Lake:
    """A lake with a pool, in each home."""
    lake.ingest(pool())
    return lake
